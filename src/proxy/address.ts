/** IP addresses in text, as sockets and PROXY headers have them, to bytes and back. */
import { isIPv4, SocketAddress } from 'node:net';

/** Both ends of a connection as its client sees it. Both addresses are of one family; ports are in host order. */
export interface Endpoints {
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
}

/** The address in network byte order: 4 bytes or 16. The text must be an address; a zone (`%eth0`) is left out. */
export function addressBytes(address: string): Buffer {
  return isIPv4(address) ? Buffer.from(address.split('.').map(Number)) : ipv6Bytes(address.replace(/%.*/, ''));
}

/** RFC 4291, section 2.2: eight groups; `::` for as many zeros as are missing; the last two may be a dotted quad. */
function ipv6Bytes(address: string): Buffer {
  const groups = (text: string) =>
    text === '' ? [] : text.split(':').flatMap((group) => (group.includes('.') ? quadGroups(group) : [Number.parseInt(group, 16)]));
  const [head = '', tail] = address.split('::');
  const before = groups(head);
  const after = groups(tail ?? '');
  const bytes = Buffer.alloc(16);
  before.forEach((group, i) => bytes.writeUInt16BE(group, 2 * i));
  after.forEach((group, i) => bytes.writeUInt16BE(group, 16 - 2 * (after.length - i)));
  return bytes;
}

function quadGroups(quad: string): number[] {
  const [a, b, c, d] = quad.split('.').map(Number) as [number, number, number, number];
  return [(a << 8) | b, (c << 8) | d];
}

/** The inverse of {@link addressBytes}, in the text form of RFC 5952. */
export function formatBytes(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i] << 8) | bytes[2 * i + 1]).toString(16));
  return new SocketAddress({ address: groups.join(':'), family: 'ipv6' }).address;
}

/**
 * What schedulers hash: for IPv4 the four network bytes in native order, the very int32 that the packet modes use
 * (packet/address.ts), so that a client gets the same server in every mode; for IPv6 FNV-1a over its sixteen.
 */
export function hashableAddress(address: string): number {
  const bytes = addressBytes(address);
  if (bytes.length === 4) return bytes.readInt32LE(0);
  let hash = 0x811c9dc5;
  for (let i = 0; i < 16; i++) hash = Math.imul(hash ^ bytes[i], 0x01000193);
  return hash;
}
