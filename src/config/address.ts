/** `IP:PORT`, as configuration files write it: `192.0.2.1:80` or `[2001:db8::1]:80`. */

import { isIP, isIPv6 } from 'node:net';
import { maskOf } from '../access/prefix-list.ts';
import { wordsOf6 } from '../ip.ts';
import { addressNumber, formatAddress, swap32 } from '../packet/address.ts';

export interface Address {
  /** The one way to write it, whatever the file says: `192.0.2.1:80`, `[2001:db8::1]:80`. */
  readonly text: string;
  /** `192.0.2.1`; `2001:db8::1`, as RFC 5952 has it, without brackets. */
  readonly ip: string;
  readonly family: 4 | 6;
  /**
   * The IPv4 address as an unsigned 32-bit number, most significant byte first: 192.0.2.1 is 0xc0000201. 0 for IPv6: look at
   * `family` first.
   */
  readonly ipNumber: number;
  /** 1–65535; 0: none, of a service without ports. */
  readonly port: number;
}

/** An address without its port. */
type Ip = Pick<Address, 'ip' | 'family' | 'ipNumber'>;

/** What is wrong with a text, to follow it in a sentence: `is a hostname`. */
export interface Problem {
  readonly problem: string;
}

/** What is wrong with `text` as an address and a port, or the address. */
export function readAddress(text: string): Address | Problem {
  const parts = splitPort(text);
  if ('problem' in parts) return parts;
  const ip = text.startsWith('[') ? readIpv6(parts.host) : readIpv4(parts.host);
  if ('problem' in ip) return ip;
  const port = readPort(parts.port);
  return typeof port === 'number' ? { ...ip, text: joinPort(ip.ip, port), port } : port;
}

/** The same of a server, whose host may be a name that has to be looked up. */
export function readHost(text: string): Address | Problem | { readonly host: string; readonly port: number } {
  const parts = splitPort(text);
  if ('problem' in parts || text.startsWith('[') || /^[\d.]*$|[\s/]/.test(parts.host)) return readAddress(text);
  const problem = nameProblem(parts.host);
  if (problem !== undefined) return { problem };
  const port = readPort(parts.port);
  return typeof port === 'number' ? { host: parts.host, port } : port;
}

/** What keeps a text from being a name of the DNS, or undefined: RFC 1123, 2.1, and the underscores that services have (RFC 2782). */
export function nameProblem(text: string): string | undefined {
  const labels = text.replace(/\.$/, '').split('.');
  const isName = text.length <= 253 && labels.every((label) => /^\w(?:[\w-]{0,61}\w)?$/.test(label)) && !/^\d+$/.test(labels.at(-1) ?? '');
  return isName ? undefined : 'is no address and no name';
}

/** The same of a service, which may have no ports: an address without one has port 0 and stands alone, `192.0.2.1`. */
export function readService(text: string): Address | Problem {
  const host = text.startsWith('[') ? /^\[([^\]]*)\](?::0)?$/.exec(text)?.[1] : /^([^:]*)(?::0)?$/.exec(text)?.[1];
  if (host === undefined) return readAddress(text);
  const ip = text.startsWith('[') ? readIpv6(host) : readIpv4(host);
  return 'problem' in ip ? ip : withoutPort(ip);
}

/** The address alone. */
export function withoutPort({ ip, family, ipNumber }: Ip): Address {
  return { ip, family, ipNumber, text: ip, port: 0 };
}

/** The address in a text that is known to be good, with or without a port. */
export function addressOf(text: string): Address {
  const address = readService(text);
  if ('problem' in address) throw new RangeError(`${text} ${address.problem}`);
  return address;
}

/** The address and port of a nameserver: without a port, 53. */
export function readNameserver(text: string): Address | Problem {
  const service = readService(text);
  if ('problem' in service) return service;
  return service.port === 0 ? { ...service, port: 53, text: joinPort(service.ip, 53) } : service;
}

/** A port, 1–65535, in decimal digits. */
export function readPort(text: string): number | Problem {
  if (text === '') return { problem: 'has no port' };
  if (!/^\d+$/.test(text)) return { problem: `has a port that is not a number, ${JSON.stringify(text)}` };
  const port = Number(text);
  if (port === 0) return { problem: 'has port 0' };
  if (port > 65535) return { problem: 'has a port above 65535' };
  if (text.startsWith('0')) return { problem: 'has a port with leading zeros' };
  return port;
}

/** An address and a port as one text; IPv6 may come in brackets, and need not. */
export function joinPort(ip: string, port: string | number): string {
  return ip.includes(':') && !ip.startsWith('[') ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/** Whether it stands for every address of its family: 0.0.0.0 or `::`. */
export function isAny({ ip }: Address): boolean {
  return ip === '0.0.0.0' || ip === '::';
}

/** A key of all addresses of a family with a port: the any-address takes them all, and those of the other family not (IPV6_V6ONLY). */
export function familyAndPort({ family, port }: Address): string {
  return `IPv${family} ${port}`;
}

/** Every host's own: 127.0.0.0/8 and ::1. */
export function isLoopback({ family, ip, ipNumber }: Address): boolean {
  return family === 4 ? ipNumber >>> 24 === 127 : ip === '::1';
}

/** What keeps an address from being one that clients connect to, or undefined. */
export function listenProblem({ ip, family, ipNumber }: Address): string | undefined {
  const isOneHosts = family === 4 ? ipNumber < 0xe0000000 : !/^ff..:/.test(ip);
  if (!isOneHosts) return 'is a multicast, broadcast or reserved address';
  // fe80::/10 means something on one interface only, which a configuration has no way to name.
  return /^fe[89ab].:/.test(ip) ? 'is a link-local address, which is not supported' : undefined;
}

/** What keeps an address from being a server's, or undefined. */
export function serverProblem(address: Address): string | undefined {
  const isNobodys = address.family === 4 ? address.ipNumber >>> 24 === 0 : isAny(address);
  return isNobodys ? 'is not the address of one host' : listenProblem(address);
}

/** An IPv4 network: its first address as a number in host order, and the bits that its addresses have in common. */
export interface Network {
  readonly first: number;
  readonly bits: number;
}

/** `10.0.0.0/24` */
export function readNetwork(text: string): Network | Problem {
  const [ip = '', length = '', ...more] = text.split('/');
  if (length === '' || more.length > 0) return { problem: 'is no network: an IPv4 address and a length, as 10.0.0.0/24' };
  const address = readAddress(joinPort(ip, 1));
  if ('problem' in address) return address;
  if (address.family !== 4) return { problem: 'is no IPv4 network' };
  const bits = /^(?:[1-9]|[12]\d|3[0-2])$/.test(length) ? Number(length) : undefined;
  if (bits === undefined) return { problem: `has a length that is not 1–32, ${JSON.stringify(length)}` };
  if (address.ipNumber % 2 ** (32 - bits) !== 0) return { problem: `has bits of its own beyond the first ${bits}` };
  return { first: address.ipNumber, bits };
}

/** A prefix of either family, `10.0.0.0/24` or `2001:db8::/32`; an address alone is all of its bits. */
export interface Prefix {
  readonly family: 4 | 6;
  /** Its first address in words of 32 bits, unsigned and in host order, most significant first. */
  readonly first: readonly number[];
  readonly bits: number;
}

/** Of ::ffff:0:0/96 (RFC 4291 section 2.5.5.2). */
const MAPPED_BITS = 96;

export function readPrefix(text: string): Prefix | Problem {
  const slash = text.indexOf('/');
  const address = slash < 0 ? text : text.slice(0, slash);
  const version = isIP(address);
  if ((version !== 4 && version !== 6) || address.includes('%')) return { problem: 'is no IP address or prefix' };
  const first = version === 4 ? [addressNumber(address)] : wordsOf6(address);
  const most = first.length * 32;
  const length = slash < 0 ? String(most) : text.slice(slash + 1);
  const bits = /^(?:0|[1-9]\d{0,2})$/.test(length) ? Number(length) : most + 1;
  if (bits > most) return { problem: `has a length that is not 0–${most}, ${JSON.stringify(length)}` };
  // An IPv4 client is known by its IPv4 address alone, wherever it comes from.
  if (version === 6 && bits >= MAPPED_BITS && first[0] === 0 && first[1] === 0 && first[2] === 0xffff)
    return { problem: `is IPv4 in IPv6 form: write ${quadOf(first[3])}${slash < 0 ? '' : `/${bits - MAPPED_BITS}`}` };
  const isExact = first.every((word, i) => (word & ~maskOf(bits - i * 32)) === 0);
  return isExact ? { family: version, first, bits } : { problem: `has bits of its own beyond the first ${bits}` };
}

/** Whether an address, or a network, has addresses of a network. */
export function meets(one: Network, other: Network): boolean {
  const size = 2 ** (32 - Math.min(one.bits, other.bits));
  return Math.floor(one.first / size) === Math.floor(other.first / size);
}

/** What keeps a text from being a network of clients, or undefined. */
export function networkProblem(text: string): string | undefined {
  const network = readNetwork(text);
  return 'problem' in network ? network.problem : undefined;
}

/** What keeps a text from being an IPv4 address, without a port, that connections to servers may leave from, or undefined. */
export function sourceProblem(text: string): string | undefined {
  if (text.includes(':')) return 'has a colon in it: an IPv4 address stands alone, without a port';
  const address = readAddress(joinPort(text, 1));
  if ('problem' in address) return address.problem;
  if (isAny(address)) return 'stands for every address';
  return isLoopback(address) ? 'is a loopback address' : serverProblem(address);
}

function splitPort(text: string): { host: string; port: string } | Problem {
  if (!text.startsWith('[')) {
    const [host = '', port, ...more] = text.split(':');
    if (more.length > 0) return { problem: 'has more than one colon: an IPv6 address stands in brackets' };
    return port === undefined ? { problem: 'has no port' } : { host, port };
  }
  const end = text.indexOf(']');
  if (end === -1) return { problem: 'has no closing bracket' };
  const rest = text.slice(end + 1);
  if (rest !== '' && !rest.startsWith(':')) return { problem: 'has something other than a port after its bracket' };
  return rest === '' ? { problem: 'has no port' } : { host: text.slice(1, end), port: rest.slice(1) };
}

function readIpv4(ip: string): Ip | Problem {
  const problem = ipv4Problem(ip);
  return problem === undefined ? { ip, family: 4, ipNumber: addressNumber(ip) } : { problem };
}

function ipv4Problem(ip: string): string | undefined {
  if (ip === '') return 'has no address before the port';
  if (/\s/.test(ip)) return 'has white space in it';
  if (ip.includes('/')) return 'has a prefix length or a path in it';
  if (!/^[\d.]+$/.test(ip)) return 'is a hostname';
  const bytes = ip.split('.');
  if (bytes.length !== 4 || bytes.includes('')) return 'is not four numbers with dots between them';
  if (bytes.some((byte) => Number(byte) > 255)) return 'has a number above 255 in its address';
  // Some programs read 010 as eight: refuse what two readers may understand differently.
  if (bytes.some((byte) => byte.length > 1 && byte.startsWith('0'))) return 'has leading zeros in its address';
  return undefined;
}

function readIpv6(text: string): Ip | Problem {
  if (text.includes('%')) return { problem: 'has a zone, which is not supported' };
  if (text.includes('/')) return { problem: 'has a prefix length in it' };
  if (!isIPv6(text)) return { problem: 'is not an IPv6 address' };
  // The URL standard's serialisation is RFC 5952's, but for mapped addresses, which go no further.
  const ip = new URL(`http://[${text}]`).hostname.slice(1, -1);
  const mapped = /^::ffff:([\da-f]+):([\da-f]+)$/.exec(ip);
  if (mapped !== null)
    return { problem: `is an IPv4 address in IPv6 form: write ${quadOf(Number(`0x${mapped[1]}`) * 2 ** 16 + Number(`0x${mapped[2]}`))}` };
  return { ip, family: 6, ipNumber: 0 };
}

/** @param address in host order */
function quadOf(address: number): string {
  return formatAddress(swap32(address));
}
