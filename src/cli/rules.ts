/** `lb4 rules`: the firewall script of a configuration, printed or run. */
import { loadConfig } from '../config/load.ts';
import { ConfigError, EXIT, formatMistake, Lb4Error, UsageError } from '../errors.ts';
import { rulesFor } from '../rules/from-config.ts';
import { renderBalancerScript } from '../rules/render.ts';
import { runRules } from '../rules/run.ts';
import type { RulesAction } from '../rules/types.ts';

export interface RulesOptions {
  /** The TOML file. */
  readonly config: string;
  /** The default; `dsr` needs fewer rules. */
  readonly passthrough?: boolean | undefined;
  readonly dsr?: boolean | undefined;
  /** Run the script here instead of printing it; at most one of the three. */
  readonly apply?: boolean | undefined;
  readonly remove?: boolean | undefined;
  readonly status?: boolean | undefined;
}

/** Where text goes: the script or its output, and what went wrong. */
export interface RulesOutput {
  out(text: string): void;
  err(text: string): void;
}

/** Exit status of `--status` when a rule is missing; the script's own. */
const MISSING_RULES = 3;

/** Returns the exit status: 0, 1, 2, 3 (`--status`: something is missing), 77 or 78. */
export async function rules(options: RulesOptions, { out, err }: RulesOutput = consoleOutput): Promise<number> {
  try {
    const action = actionOf(options);
    const { config, warnings } = loadConfig(options.config);
    for (const warning of warnings) err(`${formatMistake(warning)}\n`);
    const script = renderBalancerScript(rulesFor(config, modeOf(options)));
    if (action === undefined) {
      out(script);
      return EXIT.ok;
    }
    const { output, complete } = await runRules(script, action);
    out(output);
    return complete ? EXIT.ok : MISSING_RULES;
  } catch (error) {
    if (!(error instanceof Lb4Error)) throw error;
    err(error instanceof ConfigError ? `${error.message}\n` : `lb4: ${error.message}\n`);
    return error.exitCode;
  }
}

const consoleOutput: RulesOutput = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
};

function modeOf({ passthrough, dsr }: RulesOptions): 'passthrough' | 'dsr' {
  if (passthrough && dsr) throw new UsageError('--passthrough and --dsr exclude each other');
  return dsr ? 'dsr' : 'passthrough';
}

function actionOf({ apply, remove, status }: RulesOptions): RulesAction | undefined {
  const wanted: RulesAction[] = [];
  if (apply) wanted.push('install');
  if (remove) wanted.push('remove');
  if (status) wanted.push('status');
  if (wanted.length > 1) throw new UsageError('--apply, --remove and --status exclude each other');
  return wanted[0];
}
