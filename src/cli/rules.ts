/** `lb4 rules`: the script that a configuration asks of the balancer or of a server, printed or run. */
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/model.ts';
import { MODES, type PacketMode } from '../config/modes.ts';
import { ConfigError, EXIT, FailureError, formatMistake, Lb4Error, UsageError } from '../errors.ts';
import { hasKept } from '../io/kept-files.ts';
import { deadHolder, FAN_OUT_LOCK, forgetDeadHolder, lockHolder, nameOf } from '../io/namespace-lock.ts';
import { renderFanOutScript } from '../rules/fan-out.ts';
import { assertDialect, fanOutsFor } from '../rules/fan-out-config.ts';
import { formNow } from '../rules/form.ts';
import { returnRulesFor, rulesFor, serverAddresses, serverRulesFor } from '../rules/from-config.ts';
import { GUE_PORTS_MAX } from '../rules/gue-object.ts';
import { portNames } from '../rules/inline-ports.ts';
import { renderBalancerScript, renderInlineScript, renderReturnScript, renderServerScript } from '../rules/render.ts';
import { runRules } from '../rules/run.ts';
import {
  DIALECTS,
  FAN_OUT_DIALECTS,
  type FanOutDialect,
  type Form,
  type ReturnRulesInput,
  type RulesAction,
  type ServerRulesInput,
  UNWRAPS,
} from '../rules/types.ts';
import { withFound } from '../service/found-servers.ts';
import { assertServer } from './known-server.ts';
import { told, toldError } from './lines.ts';
import { askedMode, configFile, modeOf } from './options.ts';

export interface RulesOptions {
  /** The TOML file; left out, the default one. */
  readonly config?: string | undefined;
  /** The default; `dsr` needs fewer rules. */
  readonly passthrough?: boolean | undefined;
  readonly dsr?: boolean | undefined;
  /** What lb4 between two interfaces needs: no firewall rules. */
  readonly inline?: boolean | undefined;
  /** Rules by which the kernel alone spreads ports over processes of this host. */
  readonly fanOut?: boolean | undefined;
  /** Run the script here instead of printing it; at most one of the three. */
  readonly apply?: boolean | undefined;
  readonly remove?: boolean | undefined;
  readonly status?: boolean | undefined;
  /** `balancer`, the default, or the address of a server (DSR, or nat = "destination"). */
  readonly for?: string | undefined;
  /** How a server rewrites addresses or unwraps packets: one of DIALECTS or UNWRAPS; the script finds out when it is left out. Of a fan-out, one of FAN_OUT_DIALECTS. */
  readonly dialect?: string | undefined;
  /** With `apply` or `remove`: say what would be done, and do nothing. */
  readonly dryRun?: boolean | undefined;
}

/** Where text goes: the script or its output, and what went wrong. */
export interface RulesOutput {
  out(text: string): void;
  err(text: string): void;
  /** What to do next, for a person who looks on. */
  readonly hint?: ((text: string) => void) | undefined;
}

/** Exit status of `--status` when a rule is missing; the script's own. */
const MISSING_RULES = 3;

/** Returns the exit status: 0, 1, 2, 3 (`--status`: something is missing), 77 or 78. */
export async function rules(options: RulesOptions, { out, err, hint }: RulesOutput = consoleOutput): Promise<number> {
  try {
    const action = actionOf(options);
    if (options.fanOut) return await fanOutRules(options, action, { out, err, hint });
    const dialect = dialectOf(options);
    const warn = (message: string) => err(told(`warning: ${message}`));
    const { mode, config: written, warnings } = load(options, configFile(options.config, warn), action);
    for (const warning of warnings) err(told(formatMistake(warning)));
    // What is removed is found by its marks.
    const config = action === 'remove' && isForBalancer(options) ? written : await withFound(written, mode, warn);
    const server = serverOf(options, config);
    const script =
      server === undefined
        ? ownScript(config, mode, action)
        : MODES[mode].directions === 2
          ? renderReturnScript(returnsOf(config, mode, server))
          : renderServerScript({ ...ownRulesOf(config, mode, server, dialect, warn), ...dialect });
    if (action === undefined) {
      out(script);
      hint?.(`lb4: nothing is installed yet. ${server === undefined ? 'Here' : `On ${server}`}, as root: sh FILE install\n`);
      return EXIT.ok;
    }
    const removesOwn = action === 'remove' && server === undefined && !options.dryRun;
    if (removesOwn) assertNobodyNeedsThem();
    const waiting = removesOwn && hasKept() ? deadHolder() : undefined;
    const status = await runHere(script, action, options, { out, err });
    if (removesOwn) forgetDeadHolder(true);
    if (waiting !== undefined) out(`${nameOf(waiting)} was killed here: its connections, which waited for the next start, end now\n`);
    return status;
  } catch (error) {
    if (!(error instanceof Lb4Error)) throw error;
    err(toldError(error));
    return error.exitCode;
  }
}

/** What is removed is found by its marks: where no mode is named, a file for direct server return alone will do. */
function load(options: RulesOptions, file: string, action: RulesAction | undefined) {
  const mode = modeOf(options);
  try {
    return { mode, ...loadConfig(file, { mode }) };
  } catch (error) {
    const isAny = action === 'remove' && isForBalancer(options) && askedMode(options) === undefined;
    if (!isAny || !(error instanceof ConfigError)) throw error;
    const other = modeOf({ dsr: true });
    try {
      return { mode: other, ...loadConfig(file, { mode: other }) };
    } catch {
      throw error;
    }
  }
}

/** The same of [fan_out]. */
async function fanOutRules(options: RulesOptions, action: RulesAction | undefined, { out, err, hint }: RulesOutput): Promise<number> {
  askedMode(options);
  if (!isForBalancer(options)) throw new UsageError('--for goes with no --fan-out: its rules stand on the host of the processes');
  const asked = fanOutDialectOf(options);
  const file = configFile(options.config, (message) => err(told(`warning: ${message}`)));
  const { config, warnings } = loadConfig(file, { mode: 'fan-out' });
  for (const warning of warnings) err(told(formatMistake(warning)));
  const dialect = asked ?? 'nft';
  if (action !== 'remove') assertDialect(config, dialect);
  const script = renderFanOutScript(action === 'remove' ? [] : fanOutsFor(config), dialect);
  if (action === undefined) {
    out(script);
    hint?.('lb4: nothing is installed yet. Here, as root: sh FILE install\n');
    return EXIT.ok;
  }
  const holder = action === 'status' || options.dryRun ? undefined : lockHolder(FAN_OUT_LOCK);
  if (holder !== undefined)
    throw new FailureError(`rules: an lb4 --fan-out (pid ${holder.pid ?? 'unknown'}) runs here and looks after them: stop it first`);
  return runHere(script, action, options, { out, err });
}

/** Returns the exit status. */
async function runHere(script: string, action: RulesAction, { dryRun = false }: RulesOptions, { out, err }: RulesOutput): Promise<number> {
  const { output, complete, warnings } = await runRules(script, action, { dryRun });
  for (const warning of warnings) err(told(`warning: ${warning}`));
  out(output);
  return complete ? EXIT.ok : MISSING_RULES;
}

/** This host's. */
function ownScript(config: Config, mode: PacketMode, action: RulesAction | undefined): string {
  const { inline } = config;
  if (!MODES[mode].ownsAddresses && inline !== undefined) return renderInlineScript(portNames(inline));
  return renderBalancerScript({ ...rulesFor(config, mode), form: formFor(action, config) });
}

/** Without them the kernel resets what a running lb4 forwards, until its next look puts them back. With --no-rules they are the user's. */
function assertNobodyNeedsThem(): void {
  const holder = lockHolder();
  if (holder === undefined || holder.rules === false) return;
  throw new FailureError(`rules: an lb4 (pid ${holder.pid ?? 'unknown'}) runs here and would put them back: stop it, which removes them`);
}

/** The one that this host needs; whatever is there goes in either form. */
function formFor(action: RulesAction | undefined, config: Config): Form | undefined {
  return action === 'remove' ? undefined : formNow(serverAddresses(config));
}

const consoleOutput: RulesOutput = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  hint: process.stderr.isTTY ? (text) => void process.stderr.write(text) : undefined,
};

/** The server that the script is for; undefined: the balancer. */
function serverOf(options: RulesOptions, config: Config): string | undefined {
  const address = options.for;
  if (isForBalancer(options) || address === undefined) return undefined;
  assertServer(address, config, ', and "balancer"');
  return address;
}

/** Of a server whose answers this host expects; the others answer it anyway. */
function returnsOf(config: Config, mode: PacketMode, server: string): ReturnRulesInput {
  const input = returnRulesFor(config, mode, server);
  if (input.ports.length > 0) return input;
  throw new UsageError(`--for ${server}: in passthrough it needs no rules, unless its backend has nat = "destination"; for DSR say --dsr`);
}

function isForBalancer({ for: host = 'balancer' }: RulesOptions): boolean {
  return host === 'balancer';
}

/** Of a server in DSR. */
function ownRulesOf(config: Config, mode: PacketMode, server: string, asked: Asked, warn: (message: string) => void): ServerRulesInput {
  const input = serverRulesFor(config, mode, server);
  const missing = withoutEffect(input, asked);
  if (missing !== undefined)
    warn(`--dialect ${asked.dialect ?? asked.unwrap} is for dsr = "${missing}", which no backend of ${server}'s has: no effect`);
  const ports = new Set(input.tunnels?.map(({ port }) => port).filter((port) => port !== 0));
  if (ports.size <= GUE_PORTS_MAX) return input;
  throw new UsageError(`--for ${server}: its backends have ${ports.size} different gue_port; a server unwraps at ${GUE_PORTS_MAX} at most`);
}

type Asked = Pick<ServerRulesInput, 'dialect' | 'unwrap'>;

/** The `dsr` that a dialect is for, where no backend of the server's has it. */
function withoutEffect({ rewrites, tunnels = [] }: ServerRulesInput, { dialect, unwrap }: Asked): 'nat' | 'gue' | undefined {
  if (dialect !== undefined && rewrites.length === 0) return 'nat';
  if (unwrap !== undefined && tunnels.every(({ port }) => port === 0)) return 'gue';
  return undefined;
}

function dialectOf(options: RulesOptions): Asked {
  const { dialect } = options;
  if (dialect === undefined) return {};
  if (isForBalancer(options)) throw new UsageError('--dialect needs --for SERVER_IP: the balancer rewrites by itself');
  if (!options.dsr) throw new UsageError('--dialect needs --dsr: in passthrough servers rewrite nothing');
  const unwrap = UNWRAPS.find((one) => one === dialect);
  if (unwrap !== undefined) return { unwrap };
  const known = DIALECTS.find((one) => one === dialect);
  if (known !== undefined) return { dialect: known };
  throw new UsageError(`--dialect ${dialect} is unknown; there are: ${[...DIALECTS, ...UNWRAPS].join(', ')}`);
}

function fanOutDialectOf({ dialect }: RulesOptions): FanOutDialect | undefined {
  const known = FAN_OUT_DIALECTS.find((one) => one === dialect);
  if (dialect === undefined || known !== undefined) return known;
  throw new UsageError(`--dialect ${dialect} is none of a fan-out; there are: ${FAN_OUT_DIALECTS.join(', ')}`);
}

function actionOf({ apply, remove, status, dryRun }: RulesOptions): RulesAction | undefined {
  const wanted: RulesAction[] = [];
  if (apply) wanted.push('install');
  if (remove) wanted.push('remove');
  if (status) wanted.push('status');
  if (wanted.length > 1) throw new UsageError('--apply, --remove and --status exclude each other');
  if (dryRun && !apply && !remove) throw new UsageError('--dry-run needs --apply or --remove');
  return wanted[0];
}
