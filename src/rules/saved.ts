/** What stands in the host's tables, whoever put it there. */
import { type Address, isAny } from '../config/address.ts';
import type { TransportProtocol } from '../config/model.ts';
import { overlap, type PortRange } from '../layout/ports.ts';
import { iptablesCommand, runReader } from './program.ts';
import { read } from './read.ts';
import { PING } from './types.ts';

/** A program's standard output; undefined where it is not installed, fails or hangs. */
export async function ask(program: string, ...args: string[]): Promise<string | undefined> {
  try {
    const { status, stdout } = await runReader(program, args);
    return status === 0 ? stdout : undefined;
  } catch {
    return undefined;
  }
}

/** Of each command, once: it does not change. */
const nft = new Map<string, boolean>();

/** Whether this iptables is a face of nft's; undefined where it does not say. */
export async function isNft(iptables: string): Promise<boolean | undefined> {
  const known = nft.get(iptables) ?? (await ask(iptables, '--version'))?.includes('nf_tables');
  if (known !== undefined) nft.set(iptables, known);
  return known;
}

/** What iptables-save says of a table; nothing where it is not there. iptables-legacy makes one by looking at it, so it is not asked then. */
export async function savedRules(table: 'raw' | 'mangle' | 'nat' | 'filter'): Promise<string> {
  const iptables = iptablesCommand();
  return (await isNft(iptables)) || legacyTables().includes(table) ? ((await ask(`${iptables}-save`, '-t', table)) ?? '') : '';
}

/** Those that iptables-legacy has. */
export function legacyTables(): string[] {
  return (read('/proc/net/ip_tables_names') ?? '').split('\n');
}

const OURS = /^(?:\[(\d+):\d+\] )?-A PREROUTING (.*) -m comment --comment lb4 -j (?:DROP|CT --notrack)$/gm;

/**
 * lb4's rules in the raw table, of either form: what each matches, and how many packets it has counted.
 * @param saved what iptables-save says; without -c the counts are 0
 */
export function countedBy(saved: string): ReadonlyMap<string, number> {
  return new Map([...saved.matchAll(OURS)].map(([, packets = '0', match = '']) => [match, Number(packets)]));
}

/** What a frontend's rule matches, as iptables-save spells it (iptables/balancer.sh). */
export function matchFor({ ip, port }: Pick<Address, 'ip' | 'port'>, { name }: TransportProtocol): string {
  if (name === PING) return `-d ${ip}/32 -p icmp -m icmp --icmp-type ${ECHO_REQUEST}`;
  return `-d ${ip}/32 -p ${name} -m ${name} --dport ${port}`;
}

/**
 * Whether rules of lb4's take packets for `listen` from the kernel.
 * @param ours by what they match, as {@link countedBy} has them
 */
export function isTaken(ours: ReadonlyMap<string, unknown>, listen: Address, protocol: TransportProtocol): boolean {
  const end = matchFor({ ip: '', port: listen.port }, protocol).slice('-d '.length);
  const takesSome = (match: string) => match.startsWith('-d ') && match.endsWith(end);
  return ours.has(matchFor(listen, protocol)) || (listen.family === 4 && isAny(listen) && [...ours.keys()].some(takesSome));
}

/**
 * Whether something in `rules` (iptables-save's or nft's) may drop the packets of `wanted`, a rule as iptables/balancer.sh writes it: any
 * rule or policy that drops, unless it is for another protocol, address or port, for one client, or for what conntrack takes for invalid.
 */
export function mayDrop(rules: string, wanted: string): boolean {
  const what = matchOf(wanted);
  const others = PROTOCOLS.filter((name) => name !== / -p (\S+)/.exec(wanted)?.[1]);
  // Of what iptables-nft made, nft tells only a part (`xt match "tcp"`): iptables-save tells the whole.
  const elsewhere = new RegExp(`\\b(${others.join('|')}|ipv6|invalid|xt match)\\b`, 'i');
  return rules.split('\n').some((line) => {
    if (!/\bdrop\b/i.test(line) || elsewhere.test(line)) return false;
    const rule = matchOf(line);
    if (rule.source !== undefined && rule.source !== what.source) return false;
    if (rule.destination !== undefined && rule.destination !== what.destination) return false;
    if (rule.icmpType !== undefined && rule.icmpType !== what.icmpType) return false;
    return overlap(rule.sourcePorts, what.sourcePorts) && overlap(rule.destinationPorts, what.destinationPorts);
  });
}

/** Its type (RFC 792), as iptables-save spells it; nft gives it a name. */
const ECHO_REQUEST = '8';
/** As iptables-save has it, and nft. */
const ICMP_TYPE = /(?:--icmp-type|\bicmp type) ([\w-]+)/;

/** What rules name in place of one of them. */
const PROTOCOLS = ['tcp', 'udp', 'udplite', 'sctp', 'dccp', 'icmp', 'icmpv6'];

/** What a rule says of one address, and of ports; undefined, or all, where it says nothing, or more than is understood here. */
function matchOf(rule: string) {
  const address = (names: string) => new RegExp(`(?:${names}) (\\d+\\.\\d+\\.\\d+\\.\\d+)(?:/32)?(?: |$)`).exec(rule)?.[1];
  const ports = (name: string): PortRange => {
    const [, first = '0', last] = new RegExp(`\\b${name} (\\d+)(?:[:-](\\d+))?(?: |$)`).exec(rule) ?? [undefined, '0', '65535'];
    return { first: Number(first), last: Number(last ?? first) };
  };
  return {
    source: address('-s|\\bsaddr'),
    destination: address('-d|\\bdaddr'),
    icmpType: ICMP_TYPE.exec(rule)?.[1]?.replace('echo-request', ECHO_REQUEST),
    sourcePorts: ports('sport'),
    destinationPorts: ports('dport'),
  };
}
