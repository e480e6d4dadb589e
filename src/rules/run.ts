import { execFile, spawn } from 'node:child_process';
import type { Writable } from 'node:stream';
import { promisify } from 'node:util';
import { EXIT, FailureError, KernelFeatureError, type Lb4Error, PrivilegeError } from '../errors.ts';
import type { RulesAction } from './types.ts';

export interface RunOptions {
  /** Say what would be done and change nothing. */
  dryRun?: boolean;
  /** The iptables command, for example `iptables-legacy`; else LB4_IPTABLES of the environment, else `iptables`. */
  iptables?: string;
}

export interface RunResult {
  /** What the script printed, for `status` one line a rule. */
  output: string;
  /** False when `status` found something missing. */
  complete: boolean;
}

/** The script's exit code when `status` finds a rule missing. */
const INCOMPLETE = 3;

/**
 * Runs a rendered script by `sh` (a few tens of milliseconds, in the caller's network namespace).
 * @throws PrivilegeError, KernelFeatureError (no iptables) or FailureError, with the script's own line.
 */
export async function runRules(script: string, action: RulesAction, options: RunOptions = {}): Promise<RunResult> {
  const { status, stdout, stderr } = await shell(script, action, options);
  if (status !== 0 && status !== INCOMPLETE) throw failure(status, reason(stderr, action));
  return { output: stdout, complete: status === 0 };
}

/** A reading of the rules takes 20 ms with 1,000 of them; one that takes so long hangs. */
const READING_MS = 10_000;
const READING_BYTES = 64 << 20;

/**
 * Every rule of these tables, as iptables-save spells it, without counters: what tells whether anything has changed, at a tenth of
 * the cost of `status`. By iptables-legacy, the tables must be there: looking makes them.
 * @throws KernelFeatureError (no iptables) or FailureError
 */
export async function readRules(tables: readonly string[]): Promise<string> {
  return (await Promise.all(tables.map(readTable))).join('');
}

async function readTable(table: string): Promise<string> {
  const command = `${process.env['LB4_IPTABLES'] ?? 'iptables'}-save`;
  const env = { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
  try {
    const { stdout } = await promisify(execFile)(command, ['-t', table], { env, timeout: READING_MS, maxBuffer: READING_BYTES });
    return stdout.replaceAll(/^[#:].*\n/gm, '');
  } catch (cause) {
    const { code, stderr = '', message } = cause as Error & { code?: unknown; stderr?: string };
    if (code === 'ENOENT')
      throw new KernelFeatureError(`${command} not found: apt-get install iptables, or name one in LB4_IPTABLES`, { cause });
    throw new FailureError(`${command}: ${stderr.trim().split('\n')[0] || message}`, { cause });
  }
}

/** The raw table with its counters, `[PACKETS:BYTES] -A …`; empty where it cannot be read, which the guard of the rules tells. */
export function readCounters(): Promise<string> {
  return outputOf(`${process.env['LB4_IPTABLES'] ?? 'iptables'}-save`, '-c', '-t', 'raw');
}

/** A table of family ip as nft lists it; empty where it is not there, or there is no nft. */
export function readNftTable(name: string): Promise<string> {
  return outputOf('nft', 'list', 'table', 'ip', name);
}

/** Empty where the command fails. */
function outputOf(command: string, ...args: string[]): Promise<string> {
  const env = { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
  return promisify(execFile)(command, args, { env, timeout: READING_MS, maxBuffer: READING_BYTES }).then(
    ({ stdout }) => stdout,
    () => '',
  );
}

interface ShellResult {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** By standard input: no file to leave behind, and no limit on the length of an argument. */
function shell(script: string, action: RulesAction, options: RunOptions): Promise<ShellResult> {
  const args = ['-s', '--', action, ...(options.dryRun ? ['--dry-run'] : [])];
  const env = options.iptables === undefined ? process.env : { ...process.env, LB4_IPTABLES: options.iptables };
  return new Promise((resolve, reject) => {
    // Detached: a terminal's Ctrl-C is for lb4, not for a script half-way through the rules.
    const child = spawn('sh', args, { env, stdio: ['pipe', 'pipe', 'pipe'], detached: true });
    child.on('error', (error) => reject(new FailureError(`sh: ${error.message}`)));
    // EMFILE, ENFILE: it has no streams then, whatever the types say, and the error comes later.
    if ((child.stdin as Writable | undefined) === undefined) return;
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('close', (status) => resolve({ status, stdout, stderr }));
    child.stdin.on('error', () => {}); // a script that stopped early; its exit code says why
    child.stdin.end(script);
  });
}

function reason(stderr: string, action: RulesAction): string {
  const lines = stderr.split('\n').filter((line) => line !== '');
  const own = lines.find((line) => line.startsWith('lb4 rules: '));
  return own?.slice('lb4 '.length) ?? lines[0] ?? `rules: ${action} failed`;
}

/** The script has one exit status for everything that this host lacks; its line tells which. */
function failure(status: number | null, message: string): Lb4Error {
  if (status !== EXIT.missing) return new FailureError(message);
  return /not found|act_nat|xt_CT|iptables cannot/.test(message) ? new KernelFeatureError(message) : new PrivilegeError(message);
}
