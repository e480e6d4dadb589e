/** Programs of this host that listen where lb4's rules drop what clients send: they hear nothing of it any more, and are told nothing. */
import { parseAddress } from '../packet/address.ts';
import { read } from './read.ts';

/** Of proc(5), /proc/net/tcp: TCP_LISTEN. */
const LISTENS = '0A';
const ANY = '0'.repeat(8);
/** What stands before an IPv4 address in one of IPv6: nothing, of `::`, or ::ffff:. */
const MAPPED = `${'0'.repeat(16)}FFFF0000`;

export interface Place {
  readonly ip: string;
  readonly port: number;
}

/** Those of `places` (IPv4, TCP) that somebody listens at, with an address of its own or with every one of this host's. */
export function hiddenListeners<T extends Place>(places: readonly T[], tables = procTables()): T[] {
  const heard = new Set(tables.flatMap(listenersIn));
  return places.filter(({ ip, port }) => {
    const end = hex(port, 4);
    return heard.has(`${hex(parseAddress(ip) >>> 0, 8)}:${end}`) || heard.has(`${ANY}:${end}`);
  });
}

function procTables(): string[] {
  return ['/proc/net/tcp', '/proc/net/tcp6'].map((file) => read(file) ?? '');
}

/** ADDRESS:PORT of each IPv4 listener, in hexadecimal as the kernel writes it: the address as it stands in memory. */
function listenersIn(table: string): string[] {
  return table.split('\n').flatMap((line) => {
    const [, local = '', , state] = line.trim().split(/\s+/);
    const [address = '', port] = local.split(':');
    if (state !== LISTENS) return [];
    if (address.length === 8) return [`${address}:${port}`];
    // A socket of IPv6 hears IPv4 as well, unless it was told not to.
    if (/^0+$/.test(address)) return [`${ANY}:${port}`];
    return address.startsWith(MAPPED) ? [`${address.slice(MAPPED.length)}:${port}`] : [];
  });
}

function hex(number: number, digits: number): string {
  return number.toString(16).toUpperCase().padStart(digits, '0');
}
