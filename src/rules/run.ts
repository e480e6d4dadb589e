import { EXIT, FailureError, KernelFeatureError, type Lb4Error, PrivilegeError } from '../errors.ts';
import { type Ended, iptablesCommand, ofIpv6, runProgram, runReader } from './program.ts';
import { ask } from './saved.ts';
import type { FanOutDialect, RulesAction } from './types.ts';

export interface RunOptions {
  /** Say what would be done and change nothing. */
  dryRun?: boolean;
  /** The iptables command, for example `iptables-legacy`; else LB4_IPTABLES of the environment, else `iptables`. */
  iptables?: string;
  /** Milliseconds after which it counts as hanging, and is killed; 20 s else. */
  limitMs?: number;
}

export interface RunResult {
  /** What the script printed, for `status` one line a rule. */
  output: string;
  /** False when `status` found something missing. */
  complete: boolean;
  /** What it could not do, though all in all it succeeded. */
  warnings: readonly string[];
}

/** The script's exit code when `status` finds a rule missing. */
const INCOMPLETE = 3;

/**
 * Runs a rendered script by `sh` (a few tens of milliseconds, in the caller's network namespace).
 * @throws PrivilegeError, KernelFeatureError (no iptables) or FailureError, with the script's own line; a FailureError where it hangs:
 * it is killed then, and may have done a part.
 */
export async function runRules(script: string, action: RulesAction, options: RunOptions = {}): Promise<RunResult> {
  const { status, stdout, stderr } = await shell(script, action, options);
  if (status !== 0 && status !== INCOMPLETE) throw failure(status, reason(stderr, action));
  const warnings = [...stderr.matchAll(/^lb4 rules: warning: (.*)$/gm)].map(([, text = '']) => text);
  return { output: stdout, complete: status === 0, warnings };
}

/**
 * Every rule of these tables, as iptables-save spells it, without counters: what tells whether anything has changed, at a tenth of
 * the cost of `status`. By iptables-legacy, the tables must be there: looking makes them.
 * @throws KernelFeatureError (no iptables) or FailureError
 */
export async function readRules(tables: readonly string[]): Promise<string> {
  return (await Promise.all(tables.map((table) => readTable(table, saveCommand())))).join('');
}

async function readTable(table: string, command: string): Promise<string> {
  const stdout = await read(command, '-t', table);
  if (stdout === undefined) throw new KernelFeatureError(`${command} not found: apt-get install iptables, or name one in LB4_IPTABLES`);
  return stdout.replaceAll(/^[#:].*\n/gm, '');
}

/** The raw table with its counters, `[PACKETS:BYTES] -A …`; empty where it cannot be read, which the guard of the rules tells. */
export async function readCounters(): Promise<string> {
  return (await read(saveCommand(), '-c', '-t', 'raw').catch(() => '')) ?? '';
}

/**
 * A table as nft lists it; empty where it is not there, undefined where there is no nft.
 * @throws FailureError where nft cannot tell
 */
export function readNftTable(name: string, family: 'ip' | 'netdev' | 'inet' = 'ip'): Promise<string | undefined> {
  return read('nft', 'list', 'table', family, name).catch((error: Error) => {
    if (error.message.includes('No such file or directory')) return '';
    throw error;
  });
}

/** What stands where the rules of a fan-out are: all of the table nat of both families, by iptables. Throws as {@link readRules} does. */
export async function readFanOut(dialect: FanOutDialect): Promise<string> {
  if (dialect === 'nft') return (await readNftTable('lb4_fan_out', 'inet')) ?? '';
  return (await Promise.all([saveCommand(), ofIpv6(saveCommand())].map((save) => readTable('nat', save)))).join('');
}

/** What a fan-out is written in here: nft where this host has it, else iptables. */
export async function fanOutDialect(): Promise<FanOutDialect> {
  return (await ask('nft', 'list', 'tables')) === undefined ? 'iptables' : 'nft';
}

function saveCommand(): string {
  return `${iptablesCommand()}-save`;
}

/** What a tool prints; undefined where it is not installed. Throws a FailureError where it fails. */
async function read(command: string, ...args: string[]): Promise<string | undefined> {
  try {
    const { status, stdout, stderr } = await runReader(command, args);
    if (status === 0) return stdout;
    throw new FailureError(`${command}: ${stderr.trim().split('\n')[0] || `exit ${status}`}`);
  } catch (cause) {
    if (cause instanceof FailureError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw new FailureError(`${command}: ${message}`, { cause });
  }
}

/** Where the xtables lock is held, iptables-restore waits 5 s for it, and the script asks it three times at most. */
const SCRIPT_MS = 20_000;

/** By standard input: no file to leave behind, and no limit on the length of an argument. */
async function shell(script: string, action: RulesAction, options: RunOptions): Promise<Ended> {
  const args = ['-s', '--', action, ...(options.dryRun ? ['--dry-run'] : [])];
  const env = options.iptables === undefined ? process.env : { ...process.env, LB4_IPTABLES: options.iptables };
  try {
    return await runProgram('sh', args, { what: `rules: ${action}`, limitMs: options.limitMs ?? SCRIPT_MS, env, input: script });
  } catch (cause) {
    throw cause instanceof FailureError ? cause : new FailureError(`sh: ${(cause as Error).message}`, { cause });
  }
}

function reason(stderr: string, action: RulesAction): string {
  const lines = stderr.split('\n').filter((line) => line !== '');
  const own = lines.find((line) => line.startsWith('lb4 rules: '));
  return own?.slice('lb4 '.length) ?? lines[0] ?? `rules: ${action} failed`;
}

/** The script has one exit status for everything that this host lacks; its line tells which. */
function failure(status: number | null, message: string): Lb4Error {
  if (status !== EXIT.missing) return new FailureError(message);
  return /not found|act_nat|xt_CT|iptables cannot|unwraps/.test(message) ? new KernelFeatureError(message) : new PrivilegeError(message);
}
