/** The command line: Convey's, and lb4's own commands beside it. */
import { readFileSync } from 'node:fs';
import { CommanderError } from 'commander';
import { toldError } from './cli/lines.ts';
import { configFile, modeOf } from './cli/options.ts';
import { guardOutputs } from './cli/outputs.ts';
import { makeProgram, type Options } from './cli/program.ts';
import { run } from './cli/run.ts';
import { openRunLog } from './cli/run-log.ts';
import { EXIT, Lb4Error, resourceError } from './errors.ts';

/** How to say why lb4 ends. */
let say = (line: string): void => void process.stderr.write(line);

async function start({ config, ...options }: Options): Promise<void> {
  const mode = options.passthrough || options.dsr || options.inline ? modeOf(options) : 'proxy';
  const log = openRunLog();
  say = log.say;
  const file = configFile(config, (message) => log.log.warn(message));
  await run({ rules: options.rules, takeover: options.takeover ?? false, config: file, mode, version: version() }, log);
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
  await makeProgram(version(), start, guardOutputs).parseAsync();
} catch (thrown) {
  const error = resourceError(thrown) ?? thrown;
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  else if (error instanceof Lb4Error) {
    say(toldError(error));
    process.exitCode = error.exitCode;
  } else {
    // Not thrown again: whoever catches what nobody catches (cli/run.ts) would take it, and lb4 would end with 0.
    say(`lb4: ${error instanceof Error ? error.stack : String(error)}\n`);
    process.exitCode = EXIT.failure;
  }
}
