/**
 * Packets for tests, described by name and written out byte by byte in network order. Nothing here uses src/packet:
 * the checksums are a second, slow opinion.
 */

export interface TcpPart {
  readonly from: number;
  readonly to: number;
  /** Letters of F S R P A U; 'A' if left out. */
  readonly flags?: string;
  readonly sequence?: number;
  readonly acknowledgment?: number;
  readonly window?: number;
  readonly urgent?: number;
  /** A multiple of four bytes. */
  readonly options?: readonly number[];
  readonly payload?: Uint8Array;
  /** Overrides, to write what is wrong. */
  readonly dataOffset?: number;
  /** The checksum field holds the pseudo-header's sum, not complemented (VIRTIO_NET_HDR_F_NEEDS_CSUM). */
  readonly partial?: boolean;
  readonly checksum?: number;
}

export interface UdpPart {
  readonly from: number;
  readonly to: number;
  readonly payload?: Uint8Array;
  /** As of TCP: the pseudo-header's sum in place of the checksum. */
  readonly partial?: boolean;
  /** Overrides: 0 is none at all (RFC 768), anything else wrong. */
  readonly checksum?: number;
  readonly length?: number;
}

export interface IcmpPart {
  readonly type: number;
  readonly code?: number;
  readonly mtu?: number;
  /** The packet quoted, or its first `quotedBytes` bytes. */
  readonly quote: Packet;
  readonly quotedBytes?: number;
  /** Added to the right checksum. */
  readonly wrongBy?: number;
}

/** A ping, or with `reply` the answer to one. */
export interface EchoPart {
  readonly reply?: boolean;
  readonly id: number;
  readonly sequence?: number;
  readonly payload?: Uint8Array;
  /** Added to the right checksum. */
  readonly wrongBy?: number;
}

export interface Packet {
  /** Ethernet: destination and source, "02:00:00:00:00:01". */
  readonly ethernet?: readonly [destination: string, source: string];
  readonly source: string;
  readonly destination: string;
  readonly ttl?: number;
  readonly tos?: number;
  readonly identification?: number;
  readonly dontFragment?: boolean;
  readonly moreFragments?: boolean;
  /** In bytes. */
  readonly fragmentOffset?: number;
  /** A multiple of four bytes. */
  readonly options?: readonly number[];
  readonly tcp?: TcpPart;
  readonly udp?: UdpPart;
  readonly icmp?: IcmpPart;
  readonly echo?: EchoPart;
  /** In place of tcp, udp, icmp and echo. */
  readonly other?: { readonly protocol: number; readonly payload: Uint8Array };
  /** Overrides, to write what is wrong. */
  readonly version?: number;
  readonly headerWords?: number;
  readonly totalLength?: number;
  /** Zeroes after the IP packet up to this length of the whole Ethernet frame. */
  readonly padTo?: number;
  /** gso_size of a super-packet. */
  readonly gso?: number;
}

const ETHERNET = 14;
const FLAG_LETTERS = 'FSRPAU';

/** The Internet checksum by division (RFC 1071: the sum modulo 2^16 - 1), over big-endian words. */
export function referenceChecksum(bytes: Uint8Array | readonly number[]): number {
  return 0xffff - referenceSum(bytes);
}

/** The one's complement sum: 0 only for no or all zero bytes, never a second zero otherwise. */
export function referenceSum(bytes: Uint8Array | readonly number[]): number {
  let total = 0;
  for (let i = 0; i < bytes.length; i += 2) total += bytes[i] * 256 + (bytes[i + 1] ?? 0);
  return total === 0 ? 0 : ((total - 1) % 0xffff) + 1;
}

/** The whole Ethernet frame. */
export function buildFrame(packet: Packet): Uint8Array {
  const [destination, source] = packet.ethernet ?? ['00:00:00:00:00:00', '00:00:00:00:00:00'];
  const ip = buildIp(packet);
  const frame = new Uint8Array(Math.max(packet.padTo ?? 0, ETHERNET + ip.length));
  frame.set([...mac(destination), ...mac(source), 8, 0]);
  frame.set(ip, ETHERNET);
  return frame;
}

/** The packet from its IP header on. */
export function buildIp(packet: Packet): Uint8Array {
  const { options = [], ttl = 64, tos = 0, identification = 0, dontFragment = true, moreFragments = false, fragmentOffset = 0 } = packet;
  const [protocol, payload] = transport(packet);
  const length = 20 + options.length + payload.length;
  const header = [
    ((packet.version ?? 4) << 4) | (packet.headerWords ?? 5 + options.length / 4),
    tos,
    ...be16(packet.totalLength ?? length),
    ...be16(identification),
    ...be16((dontFragment ? 0x4000 : 0) | (moreFragments ? 0x2000 : 0) | (fragmentOffset >> 3)),
    ttl,
    protocol,
    0,
    0,
    ...quad(packet.source),
    ...quad(packet.destination),
    ...options,
  ];
  header.splice(10, 2, ...be16(referenceChecksum(header)));
  const bytes = new Uint8Array(length);
  bytes.set(header);
  bytes.set(payload, header.length);
  return bytes;
}

/** The names of all checksums of an IPv4 packet that are wrong; a quoted packet's too where it is quoted whole. */
export function wrongChecksums(ip: Uint8Array, partial = false): string[] {
  const wrong: string[] = [];
  const header = (ip[0] & 0xf) * 4;
  const total = ip[2] * 256 + ip[3];
  if (referenceChecksum(ip.subarray(0, header)) !== 0) wrong.push('IP');
  const payload = ip.subarray(header, total);
  const fragment = (ip[6] & 0x3f) !== 0 || ip[7] !== 0;
  if (fragment || ip.length < total) return wrong;
  const pseudo = [...ip.subarray(12, 20), 0, ip[9], ...be16(payload.length)];
  const isRight = () => referenceChecksum(concatenate(Uint8Array.from(pseudo), payload)) === 0;
  const isPseudo = (at: number) => referenceSum(pseudo) === payload[at] * 256 + payload[at + 1];
  if (ip[9] === 6 && !(partial ? isPseudo(16) : isRight())) wrong.push(partial ? 'TCP (partial)' : 'TCP');
  // Zero is none; 0xffff and zero are the same to a sum, so that nothing else tells of a computed zero.
  const isNone = payload[6] === 0 && payload[7] === 0;
  if (ip[9] === 17 && !(partial ? isPseudo(6) : isNone || isRight())) wrong.push(partial ? 'UDP (partial)' : 'UDP');
  if (ip[9] === 1) {
    if (referenceChecksum(payload) !== 0) wrong.push('ICMP');
    const isEcho = payload[0] === 0 || payload[0] === 8;
    if (!isEcho) wrong.push(...wrongChecksums(payload.subarray(8)).map((name) => `quoted ${name}`));
  }
  return wrong;
}

/** Bytes that no two positions share by chance: a payload to recognise. */
export function pattern(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8) * 7 + 1) & 0xff);
}

function transport(packet: Packet): [protocol: number, payload: Uint8Array] {
  if (packet.tcp) return [6, buildTcp(packet, packet.tcp)];
  if (packet.udp) return [17, buildUdp(packet, packet.udp)];
  if (packet.icmp) return [1, buildIcmp(packet.icmp)];
  if (packet.echo) return [1, buildEcho(packet.echo)];
  return [packet.other?.protocol ?? 6, packet.other?.payload ?? new Uint8Array()];
}

function buildTcp(packet: Packet, tcp: TcpPart): Uint8Array {
  const { options = [], payload = new Uint8Array(), flags = 'A' } = tcp;
  const header = [
    ...be16(tcp.from),
    ...be16(tcp.to),
    // Both sides begin at 1000, and have sent nothing since that was not acknowledged.
    ...be32(tcp.sequence ?? (flags.includes('S') && !flags.includes('R') ? 1000 : 1001)),
    ...be32(tcp.acknowledgment ?? (flags.includes('A') ? 1001 : 0)),
    (tcp.dataOffset ?? 5 + options.length / 4) << 4,
    [...flags].reduce((bits, letter) => bits | (1 << FLAG_LETTERS.indexOf(letter)), 0),
    ...be16(tcp.window ?? 512),
    0,
    0,
    ...be16(tcp.urgent ?? 0),
    ...options,
  ];
  const pseudo = Uint8Array.from([...quad(packet.source), ...quad(packet.destination), 0, 6, ...be16(header.length + payload.length)]);
  const segment = concatenate(Uint8Array.from(header), payload);
  const checksum = tcp.checksum ?? (tcp.partial ? referenceSum(pseudo) : referenceChecksum(concatenate(pseudo, segment)));
  segment.set(be16(checksum), 16);
  return segment;
}

/** RFC 768: a checksum that comes out as zero is sent as all ones. */
function buildUdp(packet: Packet, udp: UdpPart): Uint8Array {
  const { payload = new Uint8Array() } = udp;
  const length = 8 + payload.length;
  const pseudo = Uint8Array.from([...quad(packet.source), ...quad(packet.destination), 0, 17, ...be16(length)]);
  const datagram = concatenate(Uint8Array.from([...be16(udp.from), ...be16(udp.to), ...be16(udp.length ?? length), 0, 0]), payload);
  const whole = referenceChecksum(concatenate(pseudo, datagram)) || 0xffff;
  datagram.set(be16(udp.checksum ?? (udp.partial ? referenceSum(pseudo) : whole)), 6);
  return datagram;
}

function buildIcmp(icmp: IcmpPart): Uint8Array {
  const quote = buildIp(icmp.quote).subarray(0, icmp.quotedBytes);
  const message = concatenate(Uint8Array.from([icmp.type, icmp.code ?? 0, 0, 0, 0, 0, ...be16(icmp.mtu ?? 0)]), quote);
  message.set(be16((referenceChecksum(message) + (icmp.wrongBy ?? 0)) & 0xffff), 2);
  return message;
}

function buildEcho({ reply = false, id, sequence = 1, payload = new Uint8Array(), wrongBy = 0 }: EchoPart): Uint8Array {
  const message = concatenate(Uint8Array.from([reply ? 0 : 8, 0, 0, 0, ...be16(id), ...be16(sequence)]), payload);
  message.set(be16((referenceChecksum(message) + wrongBy) & 0xffff), 2);
  return message;
}

function concatenate(first: Uint8Array, second: Uint8Array): Uint8Array {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

function mac(text: string): number[] {
  return text.split(':').map((byte) => Number.parseInt(byte, 16));
}

function quad(text: string): number[] {
  return text.split('.').map(Number);
}

function be16(value: number): number[] {
  return [(value >> 8) & 0xff, value & 0xff];
}

function be32(value: number): number[] {
  return [value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff];
}
