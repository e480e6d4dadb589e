/** Standard output and error of a command that prints and ends. */
import { EXIT } from '../errors.ts';

/** What cannot be printed must not look like success, and end in no stack trace. A reader who has seen enough (`| head`) is none. */
export function guardOutputs(): void {
  for (const [name, stream] of Object.entries({ 'standard output': process.stdout, 'standard error': process.stderr }))
    stream.on('error', ({ code, message }: NodeJS.ErrnoException) => {
      if (code === 'EPIPE') return;
      if (stream === process.stdout) process.stderr.write(`lb4: ${name}: ${message}\n`);
      // At the very end: the command's own result may not be there yet.
      process.once('exit', (result) => (process.exitCode = result || EXIT.failure));
    });
}
