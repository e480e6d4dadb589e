/**
 * The PROXY protocol, versions 1 and 2: https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt, whose sections are cited.
 * Not proxy-protocol-js (4.0.6), npm's one library for both versions: it wants a whole header at once, does not say where the
 * header ends, and refuses version 1's bare UNKNOWN.
 */

import { isIPv4, isIPv6 } from 'node:net';
import { addressBytes, formatBytes } from '../ip.ts';
import type { Endpoints } from './address.ts';
import type { SendProxy } from './plan.ts';

/** Section 2.1: "107 chars" and a trailing zero hold any v1 header. */
const V1_MOST = 107;
const V1_PREFIX = Buffer.from('PROXY ');
/** Section 2.2: twelve bytes that no other protocol begins with. */
const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
const V2_FIXED = 16;
/** What may follow the fixed part, TLVs (section 2.2) included. The protocol allows 65,535; senders stay well below one page. */
const V2_MOST = 4096;

const LOCAL = 0x20;
const PROXY = 0x21;
const UNSPEC = 0x00;
const TCP4 = 0x11;
const TCP6 = 0x21;

export type Parsed =
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'malformed'; readonly reason: string }
  /** `length` bytes are the header. No endpoints: the connection's own stand (LOCAL, UNKNOWN, a family that is not TCP over IP). */
  | { readonly kind: 'complete'; readonly length: number; readonly endpoints: Endpoints | undefined };

const INCOMPLETE: Parsed = { kind: 'incomplete' };

/** Reads the header that `bytes` begin with. Section 2: which version it is shows in the first bytes, and there is no third. */
export function parseHeader(bytes: Buffer): Parsed {
  if (startsAlike(bytes, SIGNATURE)) return bytes.length < V2_FIXED ? INCOMPLETE : parseV2(bytes);
  if (startsAlike(bytes, V1_PREFIX)) return parseV1(bytes);
  return malformed('neither signature');
}

function startsAlike(bytes: Buffer, start: Buffer): boolean {
  const length = Math.min(bytes.length, start.length);
  return bytes.compare(start, 0, length, 0, length) === 0;
}

function malformed(reason: string): Parsed {
  return { kind: 'malformed', reason };
}

/** Section 2.1: one line of words with single spaces between them. */
function parseV1(bytes: Buffer): Parsed {
  const line = bytes.toString('latin1', 0, V1_MOST);
  const end = line.indexOf('\r\n');
  if (end < 0) return bytes.length < V1_MOST ? INCOMPLETE : malformed('v1: no end of line in 107 bytes');
  const length = end + 2;
  const [, family, ...words] = line.slice(0, end).split(' ');
  // "the receiver must ignore anything presented before the CRLF"
  if (family === 'UNKNOWN') return { kind: 'complete', length, endpoints: undefined };
  const isAddress = family === 'TCP4' ? isIPv4 : family === 'TCP6' ? isIPv6 : undefined;
  if (isAddress === undefined) return malformed('v1: unknown family');
  const [source, destination, sourcePort, destinationPort, ...rest] = words as [string, string, string, string, ...string[]];
  const isWhole = words.length >= 4 && rest.length === 0 && isPort(sourcePort) && isPort(destinationPort);
  if (!isWhole || !isAddress(source) || !isAddress(destination)) return malformed('v1: bad address or port');
  const endpoints = { source, destination, sourcePort: Number(sourcePort), destinationPort: Number(destinationPort) };
  return { kind: 'complete', length, endpoints };
}

/** Decimal, 0–65535, without leading zeros. */
function isPort(text: string): boolean {
  return /^(0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65535;
}

/** Section 2.2: a fixed part of 16 bytes that tells the length of the rest. */
function parseV2(bytes: Buffer): Parsed {
  const command = bytes[12];
  const family = bytes[13];
  const rest = bytes.readUInt16BE(14);
  if (command !== LOCAL && command !== PROXY) return malformed('v2: unknown version or command');
  if (rest > V2_MOST) return malformed('v2: too long');
  const size = family === TCP4 ? 4 : family === TCP6 ? 16 : 0;
  const hasAddresses = command === PROXY && size !== 0;
  if (hasAddresses && rest < 2 * size + 4) return malformed('v2: too short for its addresses');
  const length = V2_FIXED + rest;
  if (bytes.length < length) return INCOMPLETE;
  return { kind: 'complete', length, endpoints: hasAddresses ? v2Endpoints(bytes.subarray(V2_FIXED, length), size) : undefined };
}

/** Both addresses, both ports; TLVs after them are skipped. */
function v2Endpoints(bytes: Buffer, size: number): Endpoints {
  return {
    source: formatBytes(bytes.subarray(0, size)),
    destination: formatBytes(bytes.subarray(size, 2 * size)),
    sourcePort: bytes.readUInt16BE(2 * size),
    destinationPort: bytes.readUInt16BE(2 * size + 2),
  };
}

/** The header that tells a server of a connection; UNKNOWN or UNSPEC where its endpoints are not known. */
export function formatHeader(version: SendProxy, endpoints: Endpoints | undefined): Buffer {
  return version === 'v1' ? Buffer.from(formatV1(endpoints), 'latin1') : formatV2(endpoints);
}

function formatV1(endpoints: Endpoints | undefined): string {
  if (endpoints === undefined) return 'PROXY UNKNOWN\r\n';
  const { source, destination, sourcePort, destinationPort } = endpoints;
  // Through bytes and back: without a zone, as section 2.1 has it.
  const [from, to] = [source, destination].map((address) => formatBytes(addressBytes(address)));
  return `PROXY ${isIPv4(source) ? 'TCP4' : 'TCP6'} ${from} ${to} ${sourcePort} ${destinationPort}\r\n`;
}

function formatV2(endpoints: Endpoints | undefined): Buffer {
  if (endpoints === undefined) return Buffer.concat([SIGNATURE, Buffer.of(PROXY, UNSPEC, 0, 0)]);
  const { source, destination, sourcePort, destinationPort } = endpoints;
  const addresses = Buffer.concat([addressBytes(source), addressBytes(destination)]);
  const fixed = Buffer.of(PROXY, isIPv4(source) ? TCP4 : TCP6, 0, addresses.length + 4);
  const ports = Buffer.of(sourcePort >> 8, sourcePort & 0xff, destinationPort >> 8, destinationPort & 0xff);
  return Buffer.concat([SIGNATURE, fixed, addresses, ports]);
}
