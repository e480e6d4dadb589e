/**
 * Which row of a table a packet has, as GLB's directors reckon it (github/glb-director, docs/development/glb-hashing.md): SipHash-2-4 over some
 * of its addresses and ports, in network order.
 */
import { ROWS } from './glb-table.ts';
import { sipHash, sipKey } from './siphash.ts';

/** What may be hashed, as a configuration file writes it, in the order in which it is. */
export const HASH_FIELDS = ['source', 'destination', 'source_port', 'destination_port'] as const;
export type HashField = (typeof HASH_FIELDS)[number];

/**
 * The hash of a packet from a client: its low 32 bits, of which the row and a tunnel's source port are made.
 * @param source the network's bytes in native order, as is `destination`
 * @param ports the first word of a TCP or UDP header, as it stands in the packet
 */
export type GlbHash = (source: number, destination: number, ports: number) => number;

/** What a scheduler that goes by rows knows beside its choice, for whoever sends packets with both hops. */
export interface RowTable {
  readonly hash: GlbHash;
  /** Undefined: none. */
  readonly altHash: GlbHash | undefined;
  /** As {@link hopsOf} reads it: positions of candidates. */
  readonly table: Uint16Array;
  readonly generation: number;
}

/** The hash of a table. Calls of it allocate nothing. @param key 32 hexadecimal digits */
export function glbHash(key: string, fields: readonly HashField[]): GlbHash {
  const words = sipKey(key);
  const digest = new Int32Array(2);
  const message = new Int32Array(4);
  const [source, destination, sourcePort, destinationPort] = HASH_FIELDS.map((field) => fields.includes(field));
  const length = 4 * (Number(source) + Number(destination)) + 2 * (Number(sourcePort) + Number(destinationPort));
  const portsMask = (sourcePort ? 0xffff : 0) | (destinationPort ? 0xffff0000 : 0);
  const portsShift = sourcePort ? 0 : 16;
  return (from, to, ports) => {
    let at = 0;
    if (source) message[at++] = from;
    if (destination) message[at++] = to;
    message[at] = (ports & portsMask) >>> portsShift;
    sipHash(words, message, length, digest);
    return digest[0];
  };
}

/** The row of a table that a hash has. */
export function glbRow(hash: number): number {
  return hash & (ROWS - 1);
}
