/** The host that lb4 is installed on: its files, and the programs that make users and speak to systemd. */
import { execFileSync } from 'node:child_process';
import { lstatSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FailureError } from '../errors.ts';

/** Runs a program to its end; throws as execFileSync does. */
export type Runner = (program: string, args: readonly string[]) => void;

const OUTPUT = ['ignore', 'ignore', 'pipe'] as const;

export class Host {
  readonly #root: string;
  readonly #runner: Runner;

  /** @param root a directory that stands for `/` */
  constructor(root = '/', runner: Runner = (program, args) => void execFileSync(program, args, { stdio: [...OUTPUT], encoding: 'utf8' })) {
    this.#root = root;
    this.#runner = runner;
  }

  /** Of whatever kind, a link that leads nowhere, too. */
  has(path: string): boolean {
    return lstatSync(this.#at(path), { throwIfNoEntry: false }) !== undefined;
  }

  /** Undefined: there is none that could be read. */
  text(path: string): string | undefined {
    try {
      return readFileSync(this.#at(path), 'utf8');
    } catch {
      return undefined;
    }
  }

  isEmpty(directory: string): boolean {
    try {
      return readdirSync(this.#at(directory)).length === 0;
    } catch {
      return false;
    }
  }

  hasUser(name: string): boolean {
    try {
      this.#runner('getent', ['passwd', name]);
      return true;
    } catch {
      return false;
    }
  }

  makeDirectory(path: string): void {
    mkdirSync(this.#at(path), { mode: 0o755 });
  }

  write(path: string, text: string): void {
    writeFileSync(this.#at(path), text, { mode: 0o644 });
  }

  remove(path: string): void {
    rmSync(this.#at(path));
  }

  removeDirectory(path: string): void {
    rmdirSync(this.#at(path));
  }

  /** Throws FailureError with what the program said last. */
  run(program: string, args: readonly string[]): void {
    try {
      this.#runner(program, args);
    } catch (error) {
      const { stderr = '', message } = error as Error & { readonly stderr?: string };
      throw new FailureError(`${[program, ...args].join(' ')}: ${stderr.trim().split('\n').at(-1) || message}`, { cause: error });
    }
  }

  #at(path: string): string {
    return join(this.#root, path);
  }
}
