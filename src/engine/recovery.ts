/**
 * Goes on with the flow table of an lb4 that died (kill -9, out of memory, an upgrade): flows, records, counters and the hash key are
 * in shared memory; port pools, loads, lists and free records were in the process, and are rebuilt from those by one walk.
 *
 *     flow ──names──► record ──names──► both its flows       a pair that does not name each other was torn: it goes
 *     owner, generation ──► still what they were?            else its frontend or server is somebody else by now: it goes
 *
 * What frontends and servers were is in shared memory, too (layout/counters.ts: PLACE), so that none is taken for another.
 */
import type { Core } from '../forward/core.ts';
import type { Endpoint } from '../forward/endpoints.ts';
import { modes } from '../forward/modes.ts';
import type { ServiceSet } from '../forward/service-set.ts';
import type { FrontendHops } from '../forward/ways.ts';
import * as C from '../layout/connection.ts';
import * as Flow from '../layout/flow.ts';
import { ATTEMPTS } from '../layout/header.ts';
import { KERNEL_HOP } from '../layout/hops.ts';
import { MOST_CONNECTIONS } from '../layout/limits.ts';
import { destinationPort, sourcePort } from '../packet/address.ts';

/** By the index of frontend and server: the next hop that leads there; undefined where nothing does. */
type HopOf = (frontend: number, server: number) => number | undefined;

/**
 * Takes up the connections in the memory of `core`, to which `set` was applied already. Returns how many go on.
 * @param hops the ways of `set`
 */
export function recover(core: Core, set: ServiceSet, hops: FrontendHops): number {
  dropTorn(core);
  const hopOf = hopsOf(set, hops);
  dropOrphans(core, hopOf);
  core.records.recount();
  core.table.recount();
  core.ledger.reopen();
  resumeAll(core, hopOf);
  return core.records.size;
}

/** Takes up what is in memory by `take`, and has its header know when that does not come to an end. Returns what `take` does. */
export function attempt(header: Int32Array, take: () => number): number {
  header[ATTEMPTS]++;
  const taken = take();
  header[ATTEMPTS] = 0;
  return taken;
}

/** Removes flows that no record names, and records that do not name two whole flows (or one, with direct server return). */
function dropTorn({ table, records }: Core): void {
  const { words } = records;
  for (let record = 0; record < records.capacity; record++) {
    const r = record << C.RECORD_SHIFT;
    if (words[r + C.LIFE] === 0) continue;
    const isWhole =
      names(table.words, words[r + C.FIRST], record, table.end) && isTwin(table.words, words[r + C.SECOND], record, table.end);
    if (!isWhole) words[r + C.LIFE] = 0;
  }
  for (let slot = 0; slot < table.end; slot++) {
    if (!table.isLive(slot)) continue;
    const record = table.words[(slot << Flow.ENTRY_SHIFT) + Flow.CONNECTION];
    const r = record << C.RECORD_SHIFT;
    const isNamed = record >= 0 && record < records.capacity && words[r + C.LIFE] !== 0;
    if (!isNamed || (words[r + C.FIRST] !== slot && words[r + C.SECOND] !== slot)) table.bury(slot);
  }
}

/** Whether the flow in a slot is alive and names the record. */
function names(flows: Int32Array, slot: number, record: number, end: number): boolean {
  if (slot < 0 || slot >= end) return false;
  const at = slot << Flow.ENTRY_SHIFT;
  return (flows[at + Flow.STATE] & Flow.PRESENCE) === Flow.LIVE && flows[at + Flow.CONNECTION] === record;
}

function isTwin(flows: Int32Array, slot: number, record: number, end: number): boolean {
  return slot === Flow.NONE || names(flows, slot, record, end);
}

/** Removes the connections of frontends and servers that are not in the set any more, or are others, and those that nothing leads on. */
function dropOrphans({ table, records, connections }: Core, hopOf: HopOf): void {
  const { words } = records;
  const isLost = (record: number): boolean => {
    const owner = words[(record << C.RECORD_SHIFT) + C.OWNER];
    return connections.isOrphan(record) || hopOf(owner >>> 16, owner & 0xffff) === undefined;
  };
  for (let record = 0; record < records.capacity; record++) {
    const r = record << C.RECORD_SHIFT;
    if (words[r + C.LIFE] === 0 || !isLost(record)) continue;
    table.bury(words[r + C.FIRST]);
    if (words[r + C.SECOND] !== Flow.NONE) table.bury(words[r + C.SECOND]);
    words[r + C.LIFE] = 0;
  }
}

function resumeAll(core: Core, hopOf: HopOf): void {
  const { records, connections, services } = core;
  const { words } = records;
  const ports = new Map<number, number[]>();
  const halfOpen: number[] = [];
  const resume = (record: number): void => {
    const owner = words[(record << C.RECORD_SHIFT) + C.OWNER];
    connections.resume(record, hopOf(owner >>> 16, owner & 0xffff) ?? KERNEL_HOP);
  };
  for (let record = 0; record < records.capacity; record++) {
    const r = record << C.RECORD_SHIFT;
    if (words[r + C.LIFE] === 0) continue;
    words[r + C.POOL] = poolOf(core, r, ports);
    if (connections.isHalfOpen(record)) halfOpen.push(record);
    else resume(record);
  }
  for (const [pool, used] of ports) services.pools.at(pool)?.take(used);
  for (const record of oldestFirst(core, halfOpen)) resume(record);
}

/** As much as fits beside a record into a number's 53 bits: twelve days. */
const MOST_AGE = 2 ** 30 - 1;

/** Sorts records by when their clients last asked, each as one number with its age: so nothing is looked up, or called, to compare two. */
function oldestFirst({ records, table }: Core, halfOpen: readonly number[]): readonly number[] {
  const seen = (record: number) => table.words[(records.words[(record << C.RECORD_SHIFT) + C.FIRST] << Flow.ENTRY_SHIFT) + Flow.SEEN];
  let newest = halfOpen.length > 0 ? seen(halfOpen[0]) : 0;
  for (const record of halfOpen) if (((seen(record) - newest) | 0) > 0) newest = seen(record);
  const youth = (record: number) => MOST_AGE - Math.min((newest - seen(record)) >>> 0, MOST_AGE);
  const sorted = Float64Array.from(halfOpen, (record) => youth(record) * MOST_CONNECTIONS + record).sort();
  return Array.from(sorted, (one) => one % MOST_CONNECTIONS);
}

/** The pool that a connection's source port is of, by what its packets leave as, and notes the port; NONE where it has none. */
function poolOf({ table, records, services }: Core, r: number, ports: Map<number, number[]>): number {
  const { words } = records;
  if (words[r + C.POOL] === Flow.NONE) return Flow.NONE;
  const first = words[r + C.FIRST] << Flow.ENTRY_SHIFT;
  const leaving = table.words[first + Flow.NEW_PORTS];
  const address = table.words[first + Flow.NEW_DESTINATION];
  const protocol = (table.words[first + Flow.STATE] >>> Flow.PROTOCOL_SHIFT) & 0xff;
  const pool = services.pools.indexOf(table.words[first + Flow.NEW_SOURCE], { address, port: destinationPort(leaving), protocol });
  const used = ports.get(pool);
  if (used === undefined) ports.set(pool, [sourcePort(leaving)]);
  else used.push(sourcePort(leaving));
  return pool;
}

/**
 * By what leads there now, of whichever frontend at this address: a frontend may have changed its backend, or that its name. Where
 * nothing does, by the kernel's routing; with L2 DSR, whose address is the kernel's own, not at all.
 */
function hopsOf(set: ServiceSet, hops: FrontendHops): HopOf {
  const places = new Map(set.backends.map(({ name, servers }) => [name, new Map(servers.map(({ index }, place) => [index, place]))]));
  const byFrontend = new Map(set.frontends.map(({ index, backend }) => [index, { places: places.get(backend), ways: hops.get(index) }]));
  const others = new Map<number, number | undefined>();
  return (frontend, server) => {
    const { places: own, ways } = byFrontend.get(frontend) ?? {};
    const place = own?.get(server);
    if (place !== undefined) return ways?.[place] ?? KERNEL_HOP;
    const pair = (frontend << 16) | server;
    if (!others.has(pair)) others.set(pair, otherHop(set, hops, frontend, server));
    return others.get(pair);
  };
}

/** The hop from a frontend to a server that is not of its backend. */
function otherHop({ frontends, backends }: ServiceSet, hops: FrontendHops, frontend: number, server: number): number | undefined {
  const from = frontends.find(({ index }) => index === frontend);
  const last = backends.find(({ servers }) => servers.some(({ index }) => index === server));
  const to = last?.servers.find(({ index }) => index === server);
  if (from === undefined || last === undefined || to === undefined) return KERNEL_HOP; // an orphan
  const { onLink } = modes[last.mode];
  for (const { index, backend: name } of frontends.filter(({ address }) => address === from.address)) {
    const backend = backends.find((one) => one.name === name);
    if (backend === undefined || modes[backend.mode].onLink !== onLink) continue;
    const place = backend.servers.findIndex((one) => isSame(one, to));
    if (place >= 0) return hops.get(index)?.[place] ?? KERNEL_HOP;
  }
  return onLink ? undefined : KERNEL_HOP;
}

function isSame(a: Endpoint, b: Endpoint): boolean {
  return a.address === b.address && a.port === b.port && a.protocol === b.protocol;
}
