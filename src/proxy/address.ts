/** The ends of a connection, and what schedulers make of the client's. */
import { isIPv4 } from 'node:net';
import { addressBytes } from '../ip.ts';
import { parseAddress } from '../packet/address.ts';

/** Both ends of a connection as its client sees it. Both addresses are of one family; ports are in host order. */
export interface Endpoints {
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
}

/**
 * What schedulers hash: for IPv4 the four network bytes in native order, the very int32 that the packet modes use
 * (packet/address.ts), so that a client gets the same server in every mode; for IPv6 FNV-1a over its sixteen.
 */
export function hashableAddress(address: string): number {
  if (isIPv4(address)) return parseAddress(address);
  const bytes = addressBytes(address);
  let hash = 0x811c9dc5;
  for (let i = 0; i < 16; i++) hash = Math.imul(hash ^ bytes[i], 0x01000193);
  return hash;
}
