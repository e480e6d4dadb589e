/**
 * Hears what routers say of packets that lb4 has wrapped: that they are too big for a link (RFC 1191). They say it to this host, whose kernel has sent
 * nothing of the kind and tells nobody. By a packet socket: no firewall of this host is in front of it.
 */
import * as D from '../layout/frames.ts';
import { formatAddress, swap16, swap32 } from '../packet/address.ts';
import { sum } from '../packet/checksum.ts';
import * as F from '../packet/fields.ts';
import {
  AND,
  assemble,
  DESTINATION,
  FRAGMENT,
  IF_EQUAL,
  type Instruction,
  JUMP,
  LOAD_BYTE_X,
  LOAD_WORD_X,
  NETWORK,
  op,
  PROTOCOL,
  SOURCE,
} from './bpf.ts';
import type { RingDriver } from './driver.ts';
import { accept, drop, oneOf } from './filter.ts';
import { openPacketSocket } from './packet-socket.ts';
import { wholeToThisHost } from './tunnel-probe.ts';

/** The least that a ring has (native/packet_socket.cc). */
const SLOTS = 32;
const PLAIN_HEADER = 0x45;
/** Of what is quoted: the IP header, and eight bytes (RFC 792). */
const QUOTED_MIN = F.IP_HEADER + 8;
/** Where the quoted packet is, behind X. */
const QUOTED = NETWORK + F.ICMP_HEADER;
/** And in it the identification, with the word's other half, the flags and the offset. */
const IDENTIFICATION = FRAGMENT - 2;

/** Servers that a filter names: the kernel charges it to net.core.optmem_max, 20 KB on many hosts, and a server takes some 32 bytes. */
const MOST_NAMED = 400;

/** Where lb4's packets are unwrapped: a server, in native order, and a port of UDP, or 0 for IP in IP. */
export interface TunnelEnd {
  readonly destination: number;
  readonly port: number;
}

/** Nobody has verified it: anybody can send one. Addresses in native order. */
export interface OuterError {
  readonly router: string;
  /** Of the packet that was too big. */
  readonly source: number;
  readonly destination: number;
  /** Where it was to be unwrapped, of UDP; 0: IP in IP. */
  readonly port: number;
  /** Bytes that would have fitted; 0: an old router, which does not say. */
  readonly mtu: number;
}

export class OuterErrors {
  readonly #driver: RingDriver;
  readonly #frames = new Int32Array(D.HEADER + SLOTS * D.STRIDE);

  private constructor(driver: RingDriver) {
    this.#driver = driver;
  }

  /**
   * Throws the system's error where there is no socket.
   * @param filter which are heard
   */
  static open(filter: Uint32Array = tooBigAboutTunnels()): OuterErrors {
    return new OuterErrors(openPacketSocket(SLOTS, filter));
  }

  /** From now on only those about packets to these are heard, as far as the kernel has room for it. Throws the system's error. */
  hear(ends: readonly TunnelEnd[]): void {
    // The kernel charges the old one until the new one is in its place.
    this.#driver.setFilter(tooBigAboutTunnels());
    try {
      this.#driver.setFilter(tooBigAboutTunnels(ends));
    } catch {
      // Then those about any are heard, and looked through here.
    }
  }

  /** Those that have come since the last time, a ring full at most: who floods us does not hold the thread. */
  take(): OuterError[] {
    const slab = F.slabOf(this.#driver.slab);
    const count = this.#driver.receive(this.#frames, 0);
    const places = Array.from({ length: count }, (_, i) => this.#frames[D.HEADER + i * D.STRIDE + D.OFFSET]);
    const found = places.flatMap((at) => readTooBig(slab, at >>> 2) ?? []);
    this.#driver.transmit(this.#frames, count);
    return found;
  }

  close(): void {
    this.#driver.close();
  }
}

/**
 * Lets up "fragmentation needed" about UDP and IP in IP without IP options, as lb4's own have none.
 * @param ends only to these, so that strangers, who know none, do not fill the ring; too many to name: to any, as without
 */
export function tooBigAboutTunnels(ends: readonly TunnelEnd[] = []): Uint32Array {
  const servers = serversByPort(ends);
  const count = [...servers.values()].reduce((sum, { size }) => sum + size, 0);
  if (count === 0 || count > MOST_NAMED)
    return assemble([...tooBig(), [IF_EQUAL, 2, 0, F.IP_IN_IP], [IF_EQUAL, 1, 0, F.UDP], drop(), accept()]);
  const inside = toOneOf(servers.get(0) ?? new Set());
  servers.delete(0);
  const byPort = [...servers].flatMap(([port, addresses]) => ifEqual(port, toOneOf(addresses)));
  return assemble([
    ...tooBig(),
    ...ifEqual(F.IP_IN_IP, inside),
    [IF_EQUAL, 1, 0, F.UDP],
    drop(),
    op(LOAD_WORD_X, QUOTED + F.IP_HEADER),
    op(AND, 0xffff),
    ...byPort,
    drop(),
  ]);
}

/** As the kernel compares them. */
function serversByPort(ends: readonly TunnelEnd[]): Map<number, Set<number>> {
  const servers = new Map<number, Set<number>>();
  for (const { destination, port } of ends) servers.set(port, (servers.get(port) ?? new Set()).add(swap32(destination) >>> 0));
  return servers;
}

/** Where A is `value`, `body` ends the program; all else goes on behind it. A conditional jump reaches 255 instructions, JUMP any number. */
function ifEqual(value: number, body: readonly Instruction[]): Instruction[] {
  return [[IF_EQUAL, 1, 0, value], op(JUMP, body.length), ...body];
}

/** Accepts where the quoted packet was to one of these, drops all else. */
function toOneOf(addresses: ReadonlySet<number>): Instruction[] {
  return [op(LOAD_WORD_X, QUOTED + DESTINATION), ...oneOf([...addresses])];
}

/**
 * Lets up "fragmentation needed" about one of these very packets, which have addresses and protocol in common: who has not seen its identification and the eight
 * bytes behind its IP header, can quote neither.
 */
export function tooBigAbout(packets: readonly Buffer[]): Uint32Array {
  const addresses = [SOURCE, DESTINATION].flatMap((at): Instruction[] => [...ifQuoted(packets[0], at, 1, 0), drop()]);
  const any = packets.flatMap((packet): Instruction[] => [
    // What differs leads to the next one.
    ...ifQuoted(packet, IDENTIFICATION, 0, 5),
    ...ifQuoted(packet, F.IP_HEADER, 0, 3),
    ...ifQuoted(packet, F.IP_HEADER + 4, 0, 1),
    accept(),
  ]);
  return assemble([...tooBig(), [IF_EQUAL, 1, 0, packets[0][PROTOCOL]], drop(), ...addresses, ...any, drop()]);
}

/** Whether the word there is the packet's. */
function ifQuoted(packet: Buffer, at: number, jumpTrue: number, jumpFalse: number): Instruction[] {
  return [op(LOAD_WORD_X, QUOTED + at), [IF_EQUAL, jumpTrue, jumpFalse, packet.readUInt32BE(at)]];
}

/** Passes over all but "fragmentation needed" that quotes an IP header without options; then A is the protocol of that one. */
function tooBig(): Instruction[] {
  return [
    ...wholeToThisHost(F.ICMP),
    op(LOAD_BYTE_X, NETWORK),
    [IF_EQUAL, 1, 0, F.ICMP_UNREACHABLE],
    drop(),
    op(LOAD_BYTE_X, NETWORK + 1),
    [IF_EQUAL, 1, 0, F.ICMP_FRAGMENTATION_NEEDED],
    drop(),
    op(LOAD_BYTE_X, QUOTED),
    [IF_EQUAL, 1, 0, PLAIN_HEADER],
    drop(),
    op(LOAD_BYTE_X, QUOTED + PROTOCOL),
  ];
}

/** Of the packet at word `ip`, which the filter has let up; undefined: it is broken. */
export function readTooBig({ words, bytes }: F.Slab, ip: number): OuterError | undefined {
  const icmp = ip + (words[ip] & 0xf);
  const length = swap16(words[ip] >>> 16) - (words[ip] & 0xf) * 4;
  if (length < F.ICMP_HEADER + QUOTED_MIN || sum(bytes, icmp * 4, length) !== 0xffff) return undefined;
  const quoted = icmp + 2;
  const isUdp = ((words[quoted + F.IP_TTL] >>> 8) & 0xff) === F.UDP;
  return {
    router: formatAddress(words[ip + F.IP_SOURCE]),
    source: words[quoted + F.IP_SOURCE],
    destination: words[quoted + F.IP_DESTINATION],
    port: isUdp ? swap16(words[quoted + 5] >>> 16) : 0,
    mtu: swap16(words[icmp + 1] >>> 16),
  };
}
