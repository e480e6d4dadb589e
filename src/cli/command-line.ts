/** What was typed, run to its end: Convey's command line, and lb4's own commands beside it. */
import { CommanderError } from 'commander';
import { EXIT, Lb4Error, resourceError } from '../errors.ts';
import { toldError } from './lines.ts';
import { askedMode, configFile } from './options.ts';
import { guardOutputs } from './outputs.ts';
import { makeProgram, type Options } from './program.ts';
import type { RunLog } from './run-log.ts';

/** A process whose work is done has ended by then. */
const LAST_MS = 2000;

/** How to say why lb4 ends. */
let say = (line: string): void => void process.stderr.write(line);

/** Sets the exit status, and throws nothing. */
export async function commandLine(version: string): Promise<void> {
  try {
    await makeProgram(version, (options) => start(options, version), guardOutputs).parseAsync();
  } catch (thrown) {
    const error = resourceError(thrown) ?? thrown;
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    else if (error instanceof Lb4Error) {
      say(toldError(error));
      process.exitCode = error.exitCode;
    } else {
      // Not thrown again: whoever catches what nobody catches (run.ts) would take it, and lb4 would end with 0.
      say(`lb4: ${error instanceof Error ? error.stack : String(error)}\n`);
      process.exitCode = EXIT.failure;
    }
  }
}

/** Loads what only a running lb4 needs, all of it: the package may go away, or be replaced, under one that runs. */
async function start({ config, ...options }: Options, version: string): Promise<void> {
  const mode = askedMode(options) ?? 'proxy';
  const [{ openRunLog }, { run }] = await Promise.all([import('./run-log.ts'), import('./run.ts')]);
  const log = openRunLog();
  say = log.say;
  const file = configFile(config, (message) => log.log.warn(message));
  try {
    await run({ rules: options.rules, takeover: options.takeover ?? false, config: file, mode, version }, log);
  } finally {
    endSurely(log);
  }
}

/** A thread that hangs in the kernel keeps its process, which has undone all there is to undo. Nothing is to wait for that, systemd least of all. */
function endSurely({ log, end }: RunLog): void {
  const kill = () => {
    log.error('a thread hangs, and keeps this process from its end: it is killed');
    end();
    process.kill(process.pid, 'SIGKILL');
  };
  setTimeout(kill, LAST_MS).unref();
}
