/** Rules of the raw table, as iptables-save writes them, as far as they drop what lb4 carries. */

import type { TransportProtocol } from '../config/model.ts';
import { CHECK_PORTS, CLIENT_PORTS, overlap, type PortRange } from '../layout/ports.ts';
import { addressNumber } from '../packet/address.ts';

export interface DropRule {
  /** `PREROUTING -p tcp …`, to be given to `iptables -t raw -D`. */
  readonly text: string;
  /** lb4's own comment is on it. */
  readonly ours: boolean;
  /** Its name; undefined: any. */
  readonly protocol: string | undefined;
  /** ADDRESS/PREFIX; undefined: any. */
  readonly source: string | undefined;
  readonly destination: string | undefined;
  readonly sourcePorts: PortRange;
  readonly destinationPorts: PortRange;
  /** Undefined: any. */
  readonly icmpType?: string | undefined;
}

/** Packets that somebody waits for. */
export interface Awaited {
  readonly protocol: TransportProtocol;
  /** Undefined: of any client. */
  readonly source: string | undefined;
  readonly sourcePorts: PortRange;
  readonly destination: string;
  readonly destinationPorts: PortRange;
}

/** All of ICMP that is awaited: echo requests (RFC 792). */
const PING = '8';
const ANY: PortRange = { first: 0, last: 65535 };

/** A rule with matches that are not understood here (sets, interfaces, negations) is left out: it may well be tight. */
export function parseDropRules(saved: string): DropRule[] {
  return saved.split('\n').flatMap((line) => {
    const text = /^-A (PREROUTING .*-j DROP)$/.exec(line)?.[1];
    const rule = text === undefined ? undefined : parse(text);
    return rule === undefined ? [] : [rule];
  });
}

function parse(text: string): DropRule | undefined {
  // A comment may hold blanks, in quotes.
  const words = (text.match(/"[^"]*"|\S+/g) ?? []).slice(1);
  const options = new Map<string, string>();
  for (let at = 0; at < words.length; at += 2) options.set(words[at], words[at + 1] ?? '');
  const known = ['-s', '-d', '-p', '-m', '--sport', '--dport', '--icmp-type', '--comment', '-j'];
  if ([...options.keys()].some((option) => !known.includes(option))) return undefined;
  return {
    text,
    ours: options.get('--comment') === 'lb4',
    protocol: options.get('-p'),
    source: options.get('-s'),
    destination: options.get('-d'),
    sourcePorts: ports(options.get('--sport')),
    destinationPorts: ports(options.get('--dport')),
    icmpType: options.get('--icmp-type'),
  };
}

/** `80`, `32768:61000`. */
function ports(text: string | undefined): PortRange {
  if (text === undefined) return ANY;
  const [first = 0, last = first] = text.split(':').map(Number);
  return { first, last };
}

/** What clients send to a frontend. */
export function requestsTo(vip: string, port: number, protocol: TransportProtocol): Awaited {
  return { protocol, source: undefined, sourcePorts: ANY, destination: vip, destinationPorts: only(port) };
}

/** What a server answers to an address of ours: to a health check, and to a connection that lb4 forwards. */
export function answersOf(
  server: string,
  port: number,
  ours: string,
  protocol: TransportProtocol,
): { checks: Awaited; connections: Awaited } {
  const answer = { protocol, source: server, sourcePorts: only(port), destination: ours } as const;
  return {
    checks: { ...answer, destinationPorts: CHECK_PORTS },
    connections: { ...answer, destinationPorts: CLIENT_PORTS },
  };
}

/** Would the rule drop any of them? One that names clients is a ban of theirs, and no mistake. */
export function drops(rule: DropRule, { protocol, source, sourcePorts, destination, destinationPorts }: Awaited): boolean {
  return (
    concerns(rule, protocol) &&
    (rule.icmpType === undefined || rule.icmpType === PING) &&
    (source === undefined ? rule.source === undefined : covers(rule.source, source)) &&
    covers(rule.destination, destination) &&
    overlap(rule.sourcePorts, sourcePorts) &&
    overlap(rule.destinationPorts, destinationPorts)
  );
}

/** Is the rule about packets of that protocol, or of any? */
export function concerns(rule: DropRule, { name }: TransportProtocol): boolean {
  return rule.protocol === undefined || rule.protocol === name;
}

function only(port: number): PortRange {
  return { first: port, last: port };
}

/** Is the address within ADDRESS/PREFIX, or is there none? What is no address covers nothing. */
export function covers(network: string | undefined, address: string): boolean {
  if (network === undefined) return true;
  const [base = '', prefix = '32'] = network.split('/');
  const size = 2 ** (32 - Number(prefix));
  return Math.floor(addressNumber(base) / size) === Math.floor(addressNumber(address) / size);
}
