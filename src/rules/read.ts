/** Asking the host: files of /proc and /sys. What they do not say, tools do: saved.ts. */
import { readFileSync } from 'node:fs';

/** A small file's text without the newline at its end; undefined where there is none, or it may not be read. */
export function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return undefined;
  }
}
