/**
 * Addresses and ports as the core holds them: what an Int32Array reads from a packet, that is the network's bytes in
 * native order. lb4 runs on little-endian machines only (x86-64, arm64), which `assertLittleEndian` makes sure of.
 */

/** Throws on a big-endian machine, where every mask of the core would be wrong. */
export function assertLittleEndian(): void {
  if (new Uint8Array(new Uint16Array([1]).buffer)[0] !== 1) throw new Error('lb4 needs a little-endian machine');
}

/** "192.0.2.1" → its four network bytes as a native-order int32. The text must be a dotted quad (config checks it). */
export function parseAddress(text: string): number {
  const [a, b, c, d] = text.split('.').map(Number) as [number, number, number, number];
  return a | (b << 8) | (c << 16) | (d << 24);
}

/** "192.0.2.1" → 0xc0000201: unsigned, the first byte on top, so that ranges and prefixes are ranges of numbers. */
export function addressNumber(text: string): number {
  return swap32(parseAddress(text)) >>> 0;
}

/** The other way round of {@link parseAddress}. */
export function formatAddress(address: number): string {
  return [0, 8, 16, 24].map((shift) => (address >>> shift) & 255).join('.');
}

/** Host order to network order of 16 bits, and back. */
export function swap16(value: number): number {
  return ((value & 0xff) << 8) | ((value >>> 8) & 0xff);
}

/** Host order to network order of 32 bits, and back: a signed int32. */
export function swap32(value: number): number {
  return (value >>> 24) | ((value >>> 8) & 0xff00) | ((value & 0xff00) << 8) | (value << 24);
}

/** The first word of a TCP or UDP header, from a source and a destination port in host order. */
export function portsWord(source: number, destination: number): number {
  return swap16(source) | (swap16(destination) << 16);
}

/** The ports word of the opposite direction. */
export function swapPorts(ports: number): number {
  return (ports >>> 16) | (ports << 16);
}

/** Host-order source port of a ports word. */
export function sourcePort(ports: number): number {
  return swap16(ports & 0xffff);
}

/** Host-order destination port of a ports word. */
export function destinationPort(ports: number): number {
  return swap16(ports >>> 16);
}

/** Whether an address may be answered: that of one host, not this network's (0/8), multicast, reserved or broadcast (RFC 1122 section 3.2.2). */
export function isHost(address: number): boolean {
  const first = address & 0xff;
  return first !== 0 && first < 224;
}
