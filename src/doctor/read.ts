/** Asking the host: files of /proc and /sys, and the tools that say what those do not. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** A small file's text without the newline at its end; undefined where there is none, or it may not be read. */
export function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** A program's standard output; undefined where it is not installed or fails. */
export function ask(program: string, ...args: string[]): Promise<string | undefined> {
  const env = { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
  return new Promise((resolve) => execFile(program, args, { env }, (error, stdout) => resolve(error === null ? stdout : undefined)));
}
