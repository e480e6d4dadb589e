/**
 * Packets that lb4 itself sends, written over the frame that provoked them: a reset, an ICMP error. Both go back the
 * way the frame came, so the Ethernet addresses are exchanged and no route is asked. Every function takes `ip`, the
 * word index of the IP header, and returns the new length from the IP header on, in bytes.
 */
import { swap16, swap32, swapPorts } from './address.ts';
import { delta, fold, sum, update } from './checksum.ts';
import * as F from './fields.ts';

const TTL = 64;
export const RESET_LENGTH = 40;
/** RFC 1812 section 4.3.2.3: an ICMP error is as long as it can be without exceeding 576 bytes. */
const ICMP_ERROR_MAX = 576;

/** Turns a TCP segment into the reset that answers it (RFC 9293 section 3.5.2). The segment must not be a reset. */
export function buildReset(slab: F.Slab, ip: number): number {
  const { words } = slab;
  const header = words[ip] & 0xf;
  const tcp = ip + header;
  const flags = words[tcp + F.TCP_FLAGS] >>> 8;
  const length = swap16(words[ip] >>> 16) - header * 4 - ((words[tcp + F.TCP_FLAGS] >>> 4) & 0xf) * 4;
  const ports = words[tcp];
  const acknowledged = (flags & F.ACK) !== 0;
  const sequence = acknowledged ? words[tcp + F.TCP_ACKNOWLEDGMENT] : 0;
  const consumed = length + (flags & F.SYN ? 1 : 0) + (flags & F.FIN ? 1 : 0);
  const acknowledgment = acknowledged ? 0 : swap32(swap32(words[tcp + F.TCP_SEQUENCE]) + consumed);

  reverseEthernet(slab, ip);
  writeReset(
    slab,
    ip,
    words[ip + F.IP_DESTINATION],
    words[ip + F.IP_SOURCE],
    swapPorts(ports),
    acknowledged ? F.RST : F.RST | F.ACK,
    sequence,
    acknowledgment,
  );
  return RESET_LENGTH;
}

/** Writes a reset at word `ip`, without an Ethernet header, {@link RESET_LENGTH} bytes long. Addresses, ports word and numbers are as in a packet. */
export function writeReset(
  slab: F.Slab,
  ip: number,
  source: number,
  destination: number,
  ports: number,
  flags: number,
  sequence: number,
  acknowledgment: number,
): void {
  const { words } = slab;
  writeHeader(slab, ip, RESET_LENGTH, F.TCP, source, destination);
  const out = ip + 5;
  words[out + F.TCP_PORTS] = ports;
  words[out + F.TCP_SEQUENCE] = sequence;
  words[out + F.TCP_ACKNOWLEDGMENT] = acknowledgment;
  words[out + F.TCP_FLAGS] = (5 << 4) | (flags << 8);
  words[out + F.TCP_CHECKSUM] = 0;
  words[out + F.TCP_CHECKSUM] = transportChecksum(slab, ip, 20);
}

/**
 * Turns an IPv4 packet into the ICMP error that answers it (RFC 792, RFC 1191 for `mtu`), sent from `source` and
 * quoting the packet as it came.
 */
export function buildIcmpError(slab: F.Slab, ip: number, type: number, code: number, mtu: number, source: number): number {
  const { words, bytes } = slab;
  const quoted = Math.min(swap16(words[ip] >>> 16), ICMP_ERROR_MAX - 28);
  const destination = words[ip + F.IP_SOURCE];
  bytes.copyWithin(ip * 4 + 28, ip * 4, ip * 4 + quoted);
  reverseEthernet(slab, ip);
  writeHeader(slab, ip, 28 + quoted, F.ICMP, source, destination);
  words[ip + 5] = type | (code << 8);
  words[ip + 6] = swap16(mtu) << 16;
  words[ip + 5] = words[ip + 5] | (~sum(bytes, (ip + 5) * 4, 8 + quoted) << 16);
  return 28 + quoted;
}

/** Turns a ping into its answer (RFC 792): as long as it is, with the options that it came with. */
export function buildEchoReply(slab: F.Slab, ip: number): number {
  const { words, halves } = slab;
  const icmp = (ip + (words[ip] & 0xf)) * 2;
  const source = words[ip + F.IP_DESTINATION];
  reverseEthernet(slab, ip);
  clearOffload(slab, ip);
  words[ip + F.IP_DESTINATION] = words[ip + F.IP_SOURCE];
  words[ip + F.IP_SOURCE] = source;
  words[ip + F.IP_FRAGMENT] = words[ip + F.IP_FRAGMENT] & ~F.DONT_FRAGMENT;
  words[ip + F.IP_TTL] = TTL | (F.ICMP << 8);
  finishIpHeader(slab, ip);
  const type = (halves[icmp] & 0xff00) | F.ICMP_ECHO_REPLY;
  halves[icmp + F.ICMP_CHECKSUM / 2] = update(halves[icmp + F.ICMP_CHECKSUM / 2], delta(halves[icmp], type));
  halves[icmp] = type;
  return swap16(words[ip] >>> 16);
}

/** The checksum of the TCP segment, or UDP datagram, of `length` bytes behind an option-less IP header, its own field being zero. */
export function transportChecksum(slab: F.Slab, ip: number, length: number): number {
  const pseudo = sum(slab.bytes, (ip + F.IP_SOURCE) * 4, 8) + (slab.words[ip + F.IP_TTL] & 0xff00) + swap16(length);
  return ~fold(pseudo + sum(slab.bytes, (ip + 5) * 4, length)) & 0xffff;
}

/**
 * Whether the checksum of the TCP segment, or UDP datagram, in the IPv4 packet at word `ip` is right (RFC 9293 section 3.1), or there is none. A
 * datagram is as long as its own header says (RFC 768), which must not be more than the packet has.
 */
export function isTransportIntact({ bytes, words }: F.Slab, ip: number): boolean {
  const header = (words[ip] & 0xf) * 4;
  let segment = swap16(words[ip] >>> 16) - header;
  if ((words[ip + F.IP_TTL] & 0xff00) === F.UDP << 8) {
    const word = words[ip + (words[ip] & 0xf) + F.UDP_LENGTH];
    if (word >>> 16 === 0) return true;
    segment = Math.min(segment, swap16(word & 0xffff));
  }
  const pseudo = sum(bytes, (ip + F.IP_SOURCE) * 4, 8) + (words[ip + F.IP_TTL] & 0xff00) + swap16(segment);
  return fold(pseudo + sum(bytes, ip * 4 + header, segment)) === 0xffff;
}

/** Recomputes the IPv4 header checksum from the whole header. */
export function finishIpHeader(slab: F.Slab, ip: number): void {
  const { words, bytes } = slab;
  words[ip + F.IP_TTL] = words[ip + F.IP_TTL] & 0xffff;
  words[ip + F.IP_TTL] = words[ip + F.IP_TTL] | (~sum(bytes, ip * 4, (words[ip] & 0xf) * 4) << 16);
}

/** Clears the virtio_net_hdr: the frame is whole, its checksums are final. */
export function clearOffload(slab: F.Slab, ip: number): void {
  slab.words[ip + F.VNET_WORD] = 0;
  slab.words[ip + F.VNET_WORD + 1] = 0;
  slab.halves[ip * 2 - 8] = 0;
}

function writeHeader(slab: F.Slab, ip: number, length: number, protocol: number, source: number, destination: number): void {
  const { words } = slab;
  clearOffload(slab, ip);
  words[ip + F.IP_LENGTH] = 0x45 | (swap16(length) << 16);
  words[ip + F.IP_FRAGMENT] = F.DONT_FRAGMENT;
  words[ip + F.IP_TTL] = TTL | (protocol << 8);
  words[ip + F.IP_SOURCE] = source;
  words[ip + F.IP_DESTINATION] = destination;
  finishIpHeader(slab, ip);
}

function reverseEthernet(slab: F.Slab, ip: number): void {
  const { halves } = slab;
  const to = ip * 2 + F.ETHERNET_HALF;
  for (let i = to; i < to + 3; i++) {
    const half = halves[i];
    halves[i] = halves[i + 3];
    halves[i + 3] = half;
  }
}
