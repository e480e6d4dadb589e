/** What stands in the host's tables, whoever put it there. */
import { readFileSync } from 'node:fs';
import { runProgram } from './program.ts';

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

/** Of each command, once: it does not change. */
const isNft = new Map<string, boolean>();

/** What iptables-save says of a table; nothing where it is not there. iptables-legacy makes one by looking at it, so it is not asked then. */
export async function savedRules(table: 'raw' | 'mangle' | 'nat' | 'filter'): Promise<string> {
  const iptables = process.env['LB4_IPTABLES'] ?? 'iptables';
  const known = isNft.get(iptables) ?? (await ask(iptables, '--version'))?.includes('nf_tables');
  if (known !== undefined) isNft.set(iptables, known);
  return known || legacyTables().includes(table) ? ((await ask(`${iptables}-save`, '-t', table)) ?? '') : '';
}

function legacyTables(): string[] {
  try {
    return readFileSync('/proc/net/ip_tables_names', 'utf8').split('\n');
  } catch {
    return [];
  }
}

const OURS = /^-A PREROUTING -d (\S+)\/32 -p tcp -m tcp --dport (\d+) -m comment --comment lb4 -j (?:DROP|CT --notrack)$/gm;

/** Frontends, "ADDRESS:PORT", whose packets rules of lb4's take from the kernel, in either form. */
export function takenBy(saved: string): string[] {
  return [...saved.matchAll(OURS)].map(([, address, port]) => `${address}:${port}`);
}

/**
 * Whether something in `rules` (iptables-save's or nft's) may drop the packets of `wanted`, a rule as iptables/balancer.sh writes it: any
 * rule or policy that drops, unless it is for another protocol, address or port, or for what conntrack takes for invalid.
 */
export function mayDrop(rules: string, wanted: string): boolean {
  const values = { source: /-s (\S+)\/32/, destination: /-d (\S+)\/32/, sourcePort: /--sport (\d+)/, destinationPort: /--dport (\d+)/ };
  const of = (text: string, pattern: RegExp) => pattern.exec(text)?.[1];
  return rules.split('\n').some((line) => {
    if (!/\bdrop\b/i.test(line) || /\b(udp|icmp|icmpv6|ipv6|invalid)\b/i.test(line)) return false;
    return !(
      differ(of(line, /(?:-s |\bsaddr )(\d+\.\d+\.\d+\.\d+)(?:\/32)?(?: |$)/), of(wanted, values.source)) ||
      differ(of(line, /(?:-d |\bdaddr )(\d+\.\d+\.\d+\.\d+)(?:\/32)?(?: |$)/), of(wanted, values.destination)) ||
      differ(of(line, /\bsport (\d+)(?: |$)/), of(wanted, values.sourcePort)) ||
      differ(of(line, /\bdport (\d+)(?: |$)/), of(wanted, values.destinationPort))
    );
  });
}

function differ(there: string | undefined, wanted: string | undefined): boolean {
  return there !== undefined && wanted !== undefined && there !== wanted;
}
