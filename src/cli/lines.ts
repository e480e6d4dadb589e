/** How what lb4 says of itself begins, line by line, whichever command it is. */
import type { Lb4Error } from '../errors.ts';

/** With line breaks. */
export function told(message: string): string {
  return message
    .split('\n')
    .map((line) => `lb4: ${line}\n`)
    .join('');
}

/** Of mistakes in a file a line each. */
export function toldError({ message }: Lb4Error): string {
  return told(message);
}

export function warnOnStderr(message: string): void {
  process.stderr.write(told(`warning: ${message}`));
}
