/** What a balancer with `dsr = "gue"` sends, by hand, and what the program of its servers counts. Shares no code with src/, as wire.ts. */
import { readFileSync } from 'node:fs';
import { gueCounters, type Namespace } from './lab.ts';
import { checksum, ipv4, type Packet, TCP } from './wire.ts';

export const GUE_PORT = 19_523;

export interface Around {
  /** The servers to try after the one that it goes to, and which is next. */
  hops?: string[];
  next?: number;
  /** Of the packet inside: 4 or 41. */
  protocol?: number;
  /** Words behind the first one, where they are not what they should be. */
  words?: number;
}

/** The payload of UDP: GUE's header with GLB's private data, and a packet. */
export function gue(inner: Buffer, { hops = [], next = 0, protocol = 4, words = 1 + hops.length }: Around = {}): Buffer {
  const list = Buffer.from(hops.flatMap((hop) => hop.split('.').map(Number)));
  return Buffer.concat([Buffer.from([words, protocol, 0, 0, 0, 0, next, hops.length]), list, inner]);
}

/** A TCP segment in IPv6; `source` and `destination` as 32 hexadecimal digits. */
export function tcp6(source: string, destination: string, packet: Omit<Packet, 'source' | 'destination'>): Buffer {
  const segment = ipv4({ source: '0.0.0.0', destination: '0.0.0.0', ...packet, protocol: TCP }).subarray(20);
  return ipv6(source, destination, TCP, Buffer.from(segment), 16);
}

/** An echo request in IPv6 (RFC 4443 section 4.1). */
export function echo6(source: string, destination: string, id: number): Buffer {
  return ipv6(source, destination, ICMPV6, Buffer.from([128, 0, 0, 0, id >> 8, id, 0, 1]), 2);
}

const ICMPV6 = 58;

/** `at` is where in the body its checksum stands, which is made anew. */
function ipv6(source: string, destination: string, protocol: number, body: Buffer, at: number): Buffer {
  const addresses = Buffer.from(source + destination, 'hex');
  const pseudo = Buffer.concat([addresses, Buffer.from([0, 0, body.length >> 8, body.length, 0, 0, 0, protocol])]);
  body.writeUInt16BE(0, at);
  body.writeUInt16BE(checksum(Buffer.concat([pseudo, body])), at);
  return Buffer.concat([Buffer.from([0x60, 0, 0, 0, body.length >> 8, body.length, protocol, 64]), addresses, body]);
}

const COUNTERS = ['total', 'syn', 'lastResort', 'established', 'cookie', 'self', 'alternate', 'dropped', 'destination', 'hop'] as const;
export type Counted = Readonly<Partial<Record<(typeof COUNTERS)[number], number>>>;

/** Of a server with the program: what is not 0, as the kernel prints the pinned map. */
export function countedBy(server: Namespace): Counted {
  const sums = [...readFileSync(gueCounters(server.name), 'utf8').matchAll(/^(\d+): \{([^}]*)\}/gm)].map(([, index, cpus = '']) => {
    const sum = [...cpus.matchAll(/cpu\d+: (\d+)/g)].reduce((all, [, number]) => all + Number(number), 0);
    return [COUNTERS[Number(index)] ?? 'another', sum] as const;
  });
  return Object.fromEntries(sums.filter(([, sum]) => sum > 0));
}

/** What has been counted since; of both only what is not 0. */
export function countedSince(before: Counted, now: Counted): Counted {
  const grown = COUNTERS.map((name) => [name, (now[name] ?? 0) - (before[name] ?? 0)] as const);
  return Object.fromEntries(grown.filter(([, sum]) => sum !== 0));
}
