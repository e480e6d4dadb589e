/** Every command and option of lb4, in one tree. */
import { existsSync } from 'node:fs';
import { Command } from 'commander';
import { UsageError } from '../errors.ts';
import { didYouMean } from '../suggest.ts';
import { captureCommand } from './capture.ts';
import { checkCommand } from './check-command.ts';
import { completionCommand } from './completion.ts';
import { doctorCommand } from './doctor-command.ts';
import { flowsCommand, killCommand } from './flows.ts';
import { glbCommand } from './glb-command.ts';
import { importCommand } from './import-command.ts';
import { installCommand, uninstallCommand } from './install-command.ts';
import { listCommand } from './list.ts';
import { manual, withExamples } from './manual.ts';
import { configOption } from './options.ts';
import { configCommand, reloadCommand } from './reload.ts';
import { rulesCommand } from './rules-command.ts';
import { setCommand } from './set.ts';
import { statusCommand } from './status.ts';
import { topCommand } from './top.ts';
import { traceCommand } from './trace.ts';
import { waitCommand } from './wait.ts';
import { whyCommand } from './why.ts';

/** Those of a running lb4. */
export interface Options {
  readonly passthrough?: boolean;
  readonly dsr?: boolean;
  readonly inline?: boolean;
  readonly fanOut?: boolean;
  readonly config?: string;
  readonly rules: boolean;
  readonly takeover?: boolean;
}

/**
 * @param start runs lb4 itself
 * @param before comes before each other command
 */
export function makeProgram(version: string, start: (options: Options) => Promise<void>, before: () => void = () => {}): Command {
  const program = new Command('lb4')
    .description('A layer-4 load balancer: a TCP proxy, or at packet level with --passthrough, --dsr and --inline.')
    .version(version, '-v, --version')
    .option('-p, --passthrough', 'forward packets with full NAT, without terminating TCP')
    .option('-d, --dsr', 'direct server return: servers answer clients themselves')
    .option('--inline', 'between two interfaces without an address: services to their servers, all else across as it came')
    .option('--fan-out', 'ports that the kernel spreads over processes of this host: checks these, and keeps its rules')
    .addOption(configOption())
    .option('--no-rules', 'leave the firewall rules and the reserved ports to the user')
    .option('--takeover', 'take over from the lb4 that runs, which then ends; it goes on where that cannot be')
    .helpCommand('help [command]', 'what lb4, or a command, takes')
    .enablePositionalOptions()
    // What follows a word that is no command is that command's, and not to be told of first.
    .passThroughOptions()
    .hook('preAction', (_, command) => {
      if (command === program) return;
      handDown(program, command);
      before();
    })
    .allowExcessArguments()
    .action(async (options: Options) => {
      const [word] = program.args;
      if (word !== undefined) throw new UsageError(noCommand(word, program.commands));
      await start(options);
    });
  withExamples(program, {
    'lb4 check': 'every mistake in ./lb4.toml, with its line',
    lb4: 'a TCP proxy, until SIGINT or SIGTERM',
    'lb4 --passthrough --config=/etc/lb4.toml': 'packets, as root',
    'lb4 doctor --dsr': 'what this host lacks for that mode, and what mends it',
    'lb4 list --rate': 'servers of the lb4 that runs, and what they carry',
    'lb4 rules --dsr --for 10.0.0.11 >server.sh': 'what that server needs, as a script',
  });
  program.addHelpText('after', manual());
  const beforeItRuns = [checkCommand(), doctorCommand(), rulesCommand(), importCommand(), glbCommand()];
  const whileItRuns = [
    statusCommand(),
    topCommand(),
    listCommand(),
    whyCommand(),
    traceCommand(),
    setCommand(),
    waitCommand(),
    flowsCommand(),
    killCommand(),
    captureCommand(),
  ];
  const ofTheHost = [installCommand(), uninstallCommand(), completionCommand()];
  for (const command of [...beforeItRuns, ...whileItRuns, reloadCommand(), configCommand(), ...ofTheHost]) program.addCommand(command);
  strict(program);
  return program;
}

/** How and where commander says what is wrong with a command line: one line, in lb4's own form. */
function strict(command: Command): void {
  const outputError = (text: string, write: (text: string) => void) => {
    const what = text.replace(/^error: /, '').trim();
    write(`lb4: ${what.replace(/\.$/, '').replaceAll('\n', ' ')}; see ${nameOf(command)} --help\n`);
  };
  command.exitOverride().configureOutput({ outputError });
  for (const child of command.commands) strict(child);
}

/** `lb4 import haproxy` */
function nameOf(command: Command): string {
  return command.parent === null ? command.name() : `${nameOf(command.parent)} ${command.name()}`;
}

/** `lb4 --dsr --config=FILE check`: options before a command are that command's, where it takes them. */
function handDown(program: Command, command: Command): void {
  for (const option of program.options) {
    const key = option.attributeName();
    if (program.getOptionValueSource(key) !== 'cli') continue;
    if (!command.options.some((own) => own.long === option.long))
      throw new UsageError(`${nameOf(command)} takes no ${option.long}; see ${nameOf(command)} --help`);
    if (command.getOptionValueSource(key) !== 'cli') command.setOptionValueWithSource(key, program.getOptionValue(key), 'cli');
  }
}

function noCommand(word: string, commands: readonly Command[]): string {
  const names = commands.map((command) => command.name());
  const isFile = /[./]/.test(word) || existsSync(word);
  const hint = isFile ? `; a file is named by --config=${word}` : didYouMean(word, names);
  return `there is no command "${word}"${hint === '' ? `; there are: ${names.join(', ')}` : hint}; see lb4 --help`;
}
