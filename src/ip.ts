/** IP addresses of either family in text, as sockets and PROXY headers have them, to bytes and back. */
import { isIPv4, SocketAddress } from 'node:net';
import { addressNumber, parseAddress } from './packet/address.ts';

/** The address in network byte order: 4 bytes or 16. The text must be an address; a zone (`%eth0`) is left out. */
export function addressBytes(address: string): Buffer {
  return isIPv4(address) ? ipv4Bytes(address) : ipv6Bytes(address.replace(/%.*/, ''));
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
  const number = addressNumber(quad);
  return [number >>> 16, number & 0xffff];
}

function ipv4Bytes(address: string): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(parseAddress(address));
  return bytes;
}

/** An IPv6 address in four words, unsigned and in host order, most significant first. */
export function wordsOf6(address: string): number[] {
  const bytes = ipv6Bytes(address.replace(/%.*/, ''));
  return [0, 4, 8, 12].map((at) => bytes.readUInt32BE(at));
}

/** The inverse of {@link addressBytes}, in the text form of RFC 5952. */
export function formatBytes(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i] << 8) | bytes[2 * i + 1]).toString(16));
  return new SocketAddress({ address: groups.join(':'), family: 'ipv6' }).address;
}
