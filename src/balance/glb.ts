/**
 * By GLB's table: a client's row names the server that gets its packets, and the one that gets them next if the first does not know them. No load,
 * weight or memory goes in, so balancers that know the same servers agree on every packet.
 */

import { parseAddress, portsWord } from '../packet/address.ts';
import { glbHash, glbRow, type HashField } from './glb-hash.ts';
import { glbTable, hopsOf, primaryOf, type Standing } from './glb-table.ts';
import type { Candidate, Scheduler } from './scheduler.ts';

/** What the file says of a backend. Plain data. */
export interface GlbKeys {
  /** 32 hexadecimal digits each: of the packets' hash, and of the servers' ranks. */
  readonly hashKey: string;
  readonly seed: string;
  readonly hashFields: readonly HashField[];
  /** While fields are changed: those of before, or to come; empty: none. */
  readonly altHashFields: readonly HashField[];
}

/** How packets find their row. Plain data. */
export interface Rows extends GlbKeys {
  /** Another number for other contents of the table, in every process and on every host the same: 1–0xffffffff. */
  readonly generation: number;
}

/** {@link rankRows}, or whoever knows what it came to. */
export type Rank = (seed: string, addresses: readonly number[]) => Uint16Array;

/** The table of these candidates, who have a standing each, and its generation. */
export function prepareGlb(
  candidates: readonly Candidate[],
  keys: GlbKeys,
  rank: Rank,
): { readonly table: Uint16Array; readonly rows: Rows } {
  const byAddress = candidates
    .map((candidate, position) => ({ position, address: addressOf(candidate), ...standingOf(candidate) }))
    .toSorted((a, b) => a.address - b.address);
  const ranks = rank(
    keys.seed,
    byAddress.map(({ address }) => address),
  );
  const table = glbTable(ranks, byAddress);
  return { table, rows: { ...keys, generation: generationOf(table, candidates) } };
}

/** Addresses in the order in which {@link prepareGlb} has them ranked. */
export function inRankOrder(addresses: readonly string[]): readonly number[] {
  return addresses.map(parseAddress).toSorted((a, b) => a - b);
}

export function glb(table: Uint16Array, { hashKey, hashFields, altHashFields, generation }: Rows): Scheduler {
  const hash = glbHash(hashKey, hashFields);
  const altHash = altHashFields.length === 0 ? undefined : glbHash(hashKey, altHashFields);
  return {
    pick: (address, port, to = 0, toPort = 0) => primaryOf(hopsOf(table, glbRow(hash(address, to, portsWord(port, toPort))))),
    rows: { hash, altHash, table, generation },
  };
}

/** For what has no ports, pings: directors hash them with ports of 0, so a client's identifiers change no row. Any other scheduler is as it was. */
export function withoutPorts(scheduler: Scheduler | undefined): Scheduler | undefined {
  const rows = scheduler?.rows;
  if (scheduler === undefined || rows === undefined) return scheduler;
  const { hash, altHash } = rows;
  return {
    ...scheduler,
    pick: (address, _port, to) => scheduler.pick(address, 0, to, 0),
    rows: { ...rows, hash: (source, to) => hash(source, to, 0), altHash: altHash && ((source, to) => altHash(source, to, 0)) },
  };
}

/** `192.0.2.7:80`: of IPv4 alone there are ranks. */
function addressOf({ name }: Candidate): number {
  return parseAddress(name.slice(0, name.indexOf(':')));
}

function standingOf({ standing }: Candidate): Omit<Standing, 'position'> {
  return standing ?? { state: 'active', healthy: true };
}

/** FNV-1a over what rows say, and whom they mean by it. */
function generationOf(table: Uint16Array, candidates: readonly Candidate[]): number {
  let hash = 0x811c9dc5;
  for (const { name } of candidates) for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  for (let i = 0; i < table.length; i++) hash = Math.imul(hash ^ table[i], 0x01000193);
  return hash >>> 0 || 1;
}
