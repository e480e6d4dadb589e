/** `IP:PORT`, as configuration files write it. */

export interface Address {
  /** As written, which is also the one way to write it: `192.0.2.1:80`. */
  readonly text: string;
  /** `192.0.2.1` */
  readonly ip: string;
  /** The IPv4 address as an unsigned 32-bit number, most significant byte first: 192.0.2.1 is 0xc0000201. */
  readonly ipNumber: number;
  /** 1–65535 */
  readonly port: number;
}

/** What is wrong with `text` as an IPv4 address and a port, or the address. */
export function readAddress(text: string): Address | { readonly problem: string } {
  const colon = text.lastIndexOf(':');
  if (colon !== text.indexOf(':') || text.startsWith('[')) return { problem: 'is an IPv6 address, which is not supported' };
  if (colon === -1) return { problem: 'has no port' };
  const host = ipv4Problem(text.slice(0, colon));
  if (host !== undefined) return { problem: host };
  const port = readPort(text.slice(colon + 1));
  if (typeof port !== 'number') return port;
  const ip = text.slice(0, colon);
  return { text, ip, ipNumber: ipv4Number(ip), port };
}

/** The address in a text that is known to be good. */
export function addressOf(text: string): Address {
  const address = readAddress(text);
  if ('problem' in address) throw new RangeError(`${text} ${address.problem}`);
  return address;
}

/** A port, 1–65535, in decimal digits. */
export function readPort(text: string): number | { readonly problem: string } {
  if (text === '') return { problem: 'has no port' };
  if (!/^\d+$/.test(text)) return { problem: `has a port that is not a number, ${JSON.stringify(text)}` };
  const port = Number(text);
  if (port === 0) return { problem: 'has port 0' };
  if (port > 65535) return { problem: 'has a port above 65535' };
  if (text.startsWith('0')) return { problem: 'has a port with leading zeros' };
  return port;
}

/** What is wrong with `ip` as a dotted quad, or undefined. */
export function ipv4Problem(ip: string): string | undefined {
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

/** Whether the address can never be one host's: multicast, broadcast or reserved (224.0.0.0 and above). */
export function isMulticastOrReserved(ipNumber: number): boolean {
  return ipNumber >= 0xe0000000;
}

function ipv4Number(ip: string): number {
  return ip.split('.').reduce((number, byte) => number * 256 + Number(byte), 0);
}
