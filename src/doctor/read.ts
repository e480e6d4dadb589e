/** Asking the host: files of /proc and /sys, and the tools that say what those do not. */
import { readFileSync } from 'node:fs';
import { runProgram } from '../rules/program.ts';

/** A small file's text without the newline at its end; undefined where there is none, or it may not be read. */
export function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** One that takes so long hangs. */
const LIMIT_MS = 10_000;

/** A program's standard output; undefined where it is not installed, fails or hangs. */
export async function ask(program: string, ...args: string[]): Promise<string | undefined> {
  const env = { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
  try {
    const { status, stdout } = await runProgram(program, args, { what: program, limitMs: LIMIT_MS, env });
    return status === 0 ? stdout : undefined;
  } catch {
    return undefined;
  }
}

/** What iptables-save says of a table. iptables-legacy makes one by looking at it: it is only asked about one that is there. */
export async function savedRules(table: 'raw' | 'mangle' | 'nat' | 'filter'): Promise<string> {
  const iptables = process.env['LB4_IPTABLES'] ?? 'iptables';
  const isNft = (await ask(iptables, '--version'))?.includes('nf_tables') ?? false;
  const isThere = isNft || (read('/proc/net/ip_tables_names') ?? '').split('\n').includes(table);
  return (isThere ? await ask(`${iptables}-save`, '-t', table) : undefined) ?? '';
}
