/** The command line: Convey's, and lb4's own commands beside it. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { checkCommand } from './cli/check.ts';
import { doctorCommand } from './cli/doctor.ts';
import { DEFAULT_CONFIG, modeOf } from './cli/options.ts';
import { guardOutputs } from './cli/outputs.ts';
import { rulesCommand } from './cli/rules.ts';
import { run } from './cli/run.ts';
import { openRunLog } from './cli/run-log.ts';
import { ConfigError, EXIT, Lb4Error, resourceError, UsageError } from './errors.ts';

interface Options {
  readonly passthrough?: boolean;
  readonly dsr?: boolean;
  readonly config: string;
  readonly rules: boolean;
  readonly takeover: boolean;
}

/** Where and how commander says what is wrong with a command line: one line, in lb4's own form. */
function strict(command: Command): Command {
  const say = (text: string, write: (text: string) => void) => {
    const name = command === program ? 'lb4' : `lb4 ${command.name()}`;
    write(
      `lb4: ${text
        .replace(/^error: /, '')
        .trim()
        .replace(/\.$/, '')
        .replaceAll('\n', ' ')}; see ${name} --help\n`,
    );
  };
  return command.exitOverride().configureOutput({ outputError: say });
}

const program = new Command('lb4')
  .description('A layer-4 load balancer: a TCP proxy, or at packet level with --passthrough and --dsr.')
  .version(version(), '-v, --version')
  .option('-p, --passthrough', 'forward packets with full NAT, without terminating TCP')
  .option('-d, --dsr', 'direct server return: servers answer clients themselves')
  .option('--config <file>', 'the TOML file', DEFAULT_CONFIG)
  .option('--no-rules', 'leave the firewall rules and the reserved ports to the user')
  .option('--takeover', 'take over from the lb4 that runs, which then ends; it goes on where that cannot be', false)
  .enablePositionalOptions()
  .hook('preAction', (_, command) => {
    if (command !== program) guardOutputs();
  })
  .allowExcessArguments()
  .action((options: Options) => start(program.args[0], options));

strict(program);
program.addCommand(checkCommand());
program.addCommand(doctorCommand());
program.addCommand(rulesCommand());
for (const command of program.commands) strict(command);

/** How to say why lb4 ends. */
let say = (line: string): void => void process.stderr.write(line);

async function start(command: string | undefined, options: Options): Promise<void> {
  if (command !== undefined) throw new UsageError(`there is no command '${command}': ${namesOf(program.commands)}; see lb4 --help`);
  const mode = options.passthrough || options.dsr ? modeOf(options) : 'proxy';
  const log = openRunLog();
  say = log.say;
  await run({ ...options, mode, version: version() }, log);
}

function namesOf(commands: readonly Command[]): string {
  return commands.map((command) => command.name()).join(', ');
}

function version(): string {
  // src/main.ts, dist/src/main.js and dist/src/bundle/main.js stand at different depths.
  for (const path of ['../package.json', '../../package.json', '../../../package.json']) {
    try {
      return (JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as { version: string }).version;
    } catch {}
  }
  return 'unknown';
}

try {
  await program.parseAsync();
} catch (thrown) {
  const error = resourceError(thrown) ?? thrown;
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  else if (error instanceof Lb4Error) {
    say(error instanceof ConfigError ? `${error.message}\n` : `lb4: ${error.message}\n`);
    process.exitCode = error.exitCode;
  } else {
    // Not thrown again: whoever catches what nobody catches (cli/run.ts) would take it, and lb4 would end with 0.
    say(`lb4: ${error instanceof Error ? error.stack : String(error)}\n`);
    process.exitCode = EXIT.failure;
  }
}
