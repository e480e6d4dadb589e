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
 * rule or policy that drops, unless it is for another protocol, address or port, for one client, or for what conntrack takes for invalid.
 */
export function mayDrop(rules: string, wanted: string): boolean {
  const what = matchOf(wanted);
  return rules.split('\n').some((line) => {
    // Of what iptables-nft made, nft tells only a part (`xt match "tcp"`): iptables-save tells the whole.
    if (!/\bdrop\b/i.test(line) || /\b(udp|icmp|icmpv6|ipv6|invalid|xt match)\b/i.test(line)) return false;
    const rule = matchOf(line);
    if (rule.source !== undefined && rule.source !== what.source) return false;
    if (rule.destination !== undefined && rule.destination !== what.destination) return false;
    return overlap(rule.sourcePorts, what.sourcePorts) && overlap(rule.destinationPorts, what.destinationPorts);
  });
}

type Ports = readonly [first: number, last: number];

/** What a rule says of one address, and of ports; undefined, or all, where it says nothing, or more than is understood here. */
function matchOf(rule: string) {
  const address = (names: string) => new RegExp(`(?:${names}) (\\d+\\.\\d+\\.\\d+\\.\\d+)(?:/32)?(?: |$)`).exec(rule)?.[1];
  const ports = (name: string): Ports => {
    const [, first = '0', last] = new RegExp(`\\b${name} (\\d+)(?:[:-](\\d+))?(?: |$)`).exec(rule) ?? [undefined, '0', '65535'];
    return [Number(first), Number(last ?? first)];
  };
  return {
    source: address('-s|\\bsaddr'),
    destination: address('-d|\\bdaddr'),
    sourcePorts: ports('sport'),
    destinationPorts: ports('dport'),
  };
}

function overlap([first, last]: Ports, [from, to]: Ports): boolean {
  return first <= to && from <= last;
}
