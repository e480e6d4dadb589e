/**
 * DNS rebinding: a page from elsewhere, whose name its owner lets lead to 127.0.0.1, is of one origin with whatever a browser reaches there. It
 * gives itself away by its name, which the browser says.
 */
import { isIP } from 'node:net';
import { hostname } from 'node:os';

/** @param host the header: a name or an address, with a port or not; undefined: HTTP/1.0, which no browser speaks */
export function isOwnHost(host: string | undefined): boolean {
  if (host === undefined) return true;
  const name = host.replace(/:\d*$/, '').replace(/\.$/, '').toLowerCase();
  const own = hostname().toLowerCase();
  return isIP(name.replace(/^\[(.*)\]$/, '$1')) !== 0 || name === 'localhost' || name === own || name === own.replace(/\..*/, '');
}

/** Whether a request is of a page of this very server, as far as it says: browsers say it with all that could change anything. */
export function isOwnOrigin(origin: string | undefined, host: string | undefined): boolean {
  if (origin === undefined) return true;
  return host !== undefined && /^https?:\/\//.test(origin) && origin.replace(/^https?:\/\//, '').toLowerCase() === host.toLowerCase();
}
