/** Packets of many connections to one address, each with what tells it from all others in its identification. */
import { buildFrame, buildIp, type Packet, pattern } from './packets.ts';

export interface Steered {
  /** Of its IP header. */
  readonly id: number;
  /** As the kernel puts it together. */
  readonly ip: Uint8Array;
  /** The frames that it is sent in. */
  readonly frames: readonly Uint8Array[];
}

/** A packet of each of 42 connections of six kinds: what lb4 may see. */
export function steered(round: number, mac: string, destination: string): Steered[] {
  return Array.from({ length: 42 }, (_, connection) => {
    const id = 1 + round * 42 + connection;
    const header = { ethernet: [mac, '02:00:00:00:00:01'], identification: id, dontFragment: false } as const;
    const packet = { ...kinds(connection, destination)[connection % 6], ...header };
    const ip = buildIp(packet);
    const { source } = packet;
    return { id, ip, frames: connection % 6 === 0 ? halves({ ...header, source, destination }, ip) : [buildFrame(packet)] };
  });
}

function kinds(connection: number, destination: string): readonly Packet[] {
  const source = `198.51.100.${connection + 1}`;
  const from = 20_000 + connection * 7;
  const quote: Packet = { source: destination, destination: source, tcp: { from: 80, to: from } };
  return [
    { source, destination, tcp: { from, to: 80, payload: pattern(200) } }, // in fragments
    { source, destination, tcp: { from, to: 443, payload: pattern(3) }, options: [1, 1, 1, 0] },
    { source, destination, other: { protocol: 17, payload: Uint8Array.of(from >> 8, from, 0, 53, 0, 8, 0, 0) } },
    { source: '172.16.0.1', destination, tcp: { from: 8080, to: 40_000 + connection } }, // a server's reply
    { source: '203.0.113.1', destination, icmp: { type: 3, code: 4, mtu: 1400, quote, quotedBytes: 28 } },
    { source: '203.0.113.1', destination, icmp: { type: 11, quote: { ...quote, options: [1, 1, 1, 0] } }, options: [1, 1, 1, 0] },
  ];
}

/** The first one with 8 bytes of the segment, no more than the ports need. */
function halves(header: Packet, ip: Uint8Array): Uint8Array[] {
  const [first, second] = [ip.subarray(20, 28), ip.subarray(28)];
  return [
    buildFrame({ ...header, moreFragments: true, other: { protocol: 6, payload: first } }),
    buildFrame({ ...header, fragmentOffset: 8, other: { protocol: 6, payload: second } }),
  ];
}
