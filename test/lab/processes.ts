/** Running programs inside network namespaces, and ending every one of them. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { PATIENCE, within } from './wait.ts';

/** The system's own: what comes first in PATH may be a shim (pyenv), which takes half a second to find it. */
export const PYTHON = existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3';

export interface RunResult {
  /** Exit code; 128 + n when signal n ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** `nsenter`, not `ip netns exec`: that one remounts /sys and hides /sys/fs/bpf. It execs: the pid stays the program's. */
export function inNamespace(namespace: string, command: readonly string[]): string[] {
  return ['nsenter', `--net=/run/netns/${namespace}`, '--', ...command];
}

/** Runs a command of the host to its end, for the short ones that build the lab. Throws with its standard error. */
export function host(...command: string[]): string {
  const [program = '', ...args] = command;
  try {
    return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    throw new Error(`${command.join(' ')}: ${stderr?.trim() ?? String(error)}`, { cause: error });
  }
}

/** A program that runs beside the test. */
export class Running {
  readonly name: string;
  readonly pid: number;
  /** Every line it has printed, standard output and standard error together. */
  readonly lines: string[] = [];
  readonly exited: Promise<Exit>;
  exit: Exit | undefined;

  readonly #child: ChildProcess;
  readonly #listeners = new Set<(line: string) => void>();

  constructor(command: readonly string[], options: { cwd?: string; env?: Record<string, string> } = {}) {
    const [program = '', ...args] = command;
    this.name = command.slice(command.indexOf('--') + 1).join(' ');
    this.#child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      env: { ...process.env, ...options.env },
    });
    this.pid = this.#child.pid ?? -1;
    this.exited = new Promise((resolve) => {
      this.#child.once('close', (code, signal) => {
        this.exit = { code, signal };
        resolve(this.exit);
      });
      this.#child.once('error', (error) => this.#line(`${this.name}: ${error.message}`));
    });
    this.#child.stdin?.on('error', () => undefined); // EPIPE: it ended while we wrote; `exited` tells.
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      if (stream !== null) createInterface({ input: stream }).on('line', (line) => this.#line(line));
    }
  }

  #line(line: string): void {
    this.lines.push(line);
    for (const listener of this.#listeners) listener(line);
  }

  /** The first line that matches, among those printed or still to come. */
  async line(pattern: RegExp, timeout = PATIENCE): Promise<string> {
    const known = this.lines.find((line) => pattern.test(line));
    return known ?? this.nextLine(pattern, timeout);
  }

  /** The first line that matches, among those still to come. */
  async nextLine(pattern: RegExp, timeout = PATIENCE): Promise<string> {
    let listener: (line: string) => void = () => undefined;
    const found = new Promise<string>((resolve, reject) => {
      listener = (line) => {
        if (pattern.test(line)) resolve(line);
      };
      this.#listeners.add(listener);
      void this.exited.then(({ code, signal }) =>
        reject(new Error(`${this.name} ended (${code ?? signal}) before ${pattern}:\n${this.lines.slice(-20).join('\n')}`)),
      );
    });
    try {
      return await within(found, timeout, () => `${pattern} from ${this.name}, which printed\n${this.lines.slice(-20).join('\n')}\n`);
    } finally {
      this.#listeners.delete(listener);
    }
  }

  /** Calls `listener` with every line still to come; the answer ends that. */
  onLine(listener: (line: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  write(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  /** Sends a whole stream to its standard input, then closes that. */
  async feed(stream: Readable): Promise<void> {
    if (this.#child.stdin !== null) await pipeline(stream, this.#child.stdin);
  }

  /** Closes its standard input. */
  end(): void {
    this.#child.stdin?.end();
  }

  signal(signal: NodeJS.Signals): void {
    if (this.exit === undefined) this.#child.kill(signal);
  }

  /** Sends a signal and waits for the end; SIGKILL after `patience` milliseconds. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', patience = PATIENCE): Promise<Exit> {
    this.signal(signal);
    try {
      return await within(this.exited, patience, `the end of ${this.name} after ${signal}`);
    } catch (error) {
      this.signal('SIGKILL');
      await this.exited;
      throw error;
    }
  }
}

/** Runs a command to its end without blocking this process's event loop; SIGKILL after `timeout` milliseconds, which the answer's standard error tells. */
export async function run(command: readonly string[], { input = '', timeout = 2 * PATIENCE } = {}): Promise<RunResult> {
  const [program = '', ...args] = command;
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const output: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const timer = setTimeout(() => {
    errors.push(Buffer.from(`killed after ${timeout} ms\n`));
    child.kill('SIGKILL');
  }, timeout);
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, signal) => resolve(status ?? 128 + (signal === 'SIGKILL' ? 9 : 15)));
  });
  clearTimeout(timer);
  return { code, stdout: Buffer.concat(output).toString(), stderr: Buffer.concat(errors).toString() };
}
