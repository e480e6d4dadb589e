/** Running a tool of the host to its end, with a limit: a firewall tool that hangs must not keep lb4 waiting for ever. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { FailureError } from '../errors.ts';

export interface ProgramOptions {
  /** For people: what is under way. */
  readonly what: string;
  /** Milliseconds it may take. */
  readonly limitMs: number;
  readonly env?: NodeJS.ProcessEnv;
  /** What it reads from its standard input. */
  readonly input?: string;
}

export interface Ended {
  /** Null: a signal ended it. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** One that only reads takes some tens of milliseconds; after so long it hangs. */
const READING_MS = 10_000;

/** Runs a tool that reads, with the system's own directories on its path and messages in English. */
export function runReader(command: string, args: readonly string[]): Promise<Ended> {
  return runProgram(command, args, { what: command, limitMs: READING_MS, env: readerEnvironment() });
}

/** With the system's own directories on the path, and messages in English. */
export function readerEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
}

/** The iptables of this host: what the environment says, as the scripts do. */
export function iptablesCommand(): string {
  return process.env['LB4_IPTABLES'] ?? 'iptables';
}

/** The same of IPv6, for an iptables (or an iptables-save): it goes by the same name. */
export function ofIpv6(iptables: string): string {
  return iptables.replace(/iptables(?!.*iptables)/, 'ip6tables');
}

/** More than that, in characters, no tool of the firewall has to say. */
const MOST = 64 << 20;

/**
 * Resolves when it has ended, however. One that is late or says too much is killed with all that it has started.
 * @throws FailureError then, and the system's error where it cannot be started
 */
export function runProgram(command: string, args: readonly string[], options: ProgramOptions): Promise<Ended> {
  const { what, limitMs, env = process.env, input = '' } = options;
  return new Promise((resolve, reject) => {
    // Detached: a group to be killed as a whole. And a terminal's Ctrl-C is for lb4, not for a script half-way through the rules.
    const child = spawn(command, args, { env, stdio: ['pipe', 'pipe', 'pipe'], detached: true });
    child.on('error', reject);
    // EMFILE, ENFILE: it has no streams then, whatever the types say, and the error comes later.
    if ((child.stdin as Writable | undefined) === undefined) return;
    const giveUp = (why: string) => {
      abandon(child);
      reject(new FailureError(`${what}: ${why}`));
    };
    const timer = setTimeout(() => giveUp(`still running after ${limitMs / 1000} s, and killed: a tool hangs`), limitMs);
    const tooMuch = () => giveUp('it said too much, and was killed');
    const [stdout, stderr] = [collect(child.stdout, tooMuch), collect(child.stderr, tooMuch)];
    child.on('error', () => clearTimeout(timer));
    child.on('close', (status) => {
      clearTimeout(timer);
      resolve({ status, stdout: stdout.text, stderr: stderr.text });
    });
    child.stdin.on('error', () => {}); // one that stopped early; its exit status says why
    child.stdin.end(input);
  });
}

function collect(stream: Readable, tooMuch: () => void): { text: string } {
  const collected = { text: '' };
  stream.setEncoding('utf8').on('data', (text: string) => {
    collected.text += text;
    if (collected.text.length > MOST) tooMuch();
  });
  return collected;
}

/** It may not even die at once (a system call that hangs): nothing waits for it. */
function abandon(child: ChildProcess): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  } catch {
    // ESRCH: nobody is left in the group.
  }
  for (const stream of child.stdio) stream?.destroy();
  child.unref();
}
