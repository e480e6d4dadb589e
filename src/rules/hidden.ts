/** Programs of this host that listen where lb4's rules drop what clients send: they hear nothing of it any more, and are told nothing. */
import type { TransportProtocol } from '../config/model.ts';
import { lookUp } from '../look-up.ts';
import { parseAddress } from '../packet/address.ts';
import { read } from './read.ts';

/** The state of a socket that hears whoever sends, of the protocols that have files in /proc/net (proc(5)): TCP_LISTEN; TCP_CLOSE, that is unconnected. */
const LISTENS: Readonly<Record<string, string>> = { tcp: '0A', udp: '07' };
const ANY = '0'.repeat(8);
/** What stands before an IPv4 address in one of IPv6: nothing, of `::`, or ::ffff:. */
const MAPPED = `${'0'.repeat(16)}FFFF0000`;

export interface Place {
  readonly ip: string;
  readonly port: number;
  readonly protocol: TransportProtocol;
}

/**
 * Those of `places` (IPv4) that somebody listens at, with an address of its own or with every one of this host's.
 * @param tablesOf what /proc says of a protocol's sockets, for tests
 */
export function hiddenListeners<T extends Place>(places: readonly T[], tablesOf = procTables): T[] {
  const names = [...new Set(places.map(({ protocol }) => protocol.name))];
  const heard = new Map(names.map((name) => [name, listenersOf(name, tablesOf)]));
  return places.filter(({ ip, port, protocol }) => {
    const [ends, end] = [heard.get(protocol.name), hex(port, 4)];
    return ends?.has(`${hex(parseAddress(ip) >>> 0, 8)}:${end}`) || ends?.has(`${ANY}:${end}`);
  });
}

function procTables(protocol: string): string[] {
  return [protocol, `${protocol}6`].map((name) => read(`/proc/net/${name}`) ?? '');
}

/** Nobody, of a protocol without ports. */
function listenersOf(protocol: string, tablesOf: typeof procTables): ReadonlySet<string> {
  const listens = lookUp(LISTENS, protocol);
  return new Set(listens === undefined ? [] : tablesOf(protocol).flatMap((table) => listenersIn(table, listens)));
}

/** ADDRESS:PORT of each IPv4 listener, in hexadecimal as the kernel writes it: the address as it stands in memory. */
function listenersIn(table: string, listens: string): string[] {
  return table.split('\n').flatMap((line) => {
    const [, local = '', , state] = line.trim().split(/\s+/);
    const [address = '', port] = local.split(':');
    if (state !== listens) return [];
    if (address.length === 8) return [`${address}:${port}`];
    // A socket of IPv6 hears IPv4 as well, unless it was told not to.
    if (/^0+$/.test(address)) return [`${ANY}:${port}`];
    return address.startsWith(MAPPED) ? [`${address.slice(MAPPED.length)}:${port}`] : [];
  });
}

function hex(number: number, digits: number): string {
  return number.toString(16).toUpperCase().padStart(digits, '0');
}
