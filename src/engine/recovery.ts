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
import { wayOf } from '../forward/services.ts';
import { sourcesOf } from '../forward/sources.ts';
import type { FrontendHops } from '../forward/ways.ts';
import * as C from '../layout/connection.ts';
import * as Flow from '../layout/flow.ts';
import { ATTEMPTS } from '../layout/header.ts';
import { KERNEL_HOP } from '../layout/hops.ts';
import { MOST_CONNECTIONS } from '../layout/limits.ts';
import { destinationPort, sourcePort } from '../packet/address.ts';

/** By the index of frontend and server, and what packets leave from: the next hop that leads there; undefined where nothing does. */
type HopOf = (frontend: number, server: number, source: number) => number | undefined;

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

/** What the packets of a client leave from: its own address with direct server return. */
function leavesFrom(flows: Int32Array, words: Int32Array, r: number): number {
  return flows[(words[r + C.FIRST] << Flow.ENTRY_SHIFT) + Flow.NEW_SOURCE];
}

/** Removes the connections of frontends and servers that are not in the set any more, or are others, and those that nothing leads on. */
function dropOrphans({ table, records, connections, services }: Core, hopOf: HopOf): void {
  const { words } = records;
  const isLost = (record: number): boolean => {
    const r = record << C.RECORD_SHIFT;
    if (connections.isOrphan(record)) return true;
    const source = leavesFrom(table.words, words, r);
    // Its answers would not be taken.
    if (words[r + C.POOL] !== Flow.NONE && !services.isSource(source)) return true;
    return hopOf(words[r + C.OWNER] >>> 16, words[r + C.OWNER] & 0xffff, source) === undefined;
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
  const { table, records, connections, services } = core;
  const { words } = records;
  const ports = new Map<number, number[]>();
  const halfOpen: number[] = [];
  const resume = (record: number): void => {
    const r = record << C.RECORD_SHIFT;
    const hop = hopOf(words[r + C.OWNER] >>> 16, words[r + C.OWNER] & 0xffff, leavesFrom(table.words, words, r));
    connections.resume(record, hop ?? KERNEL_HOP);
  };
  for (let record = 0; record < records.capacity; record++) {
    const r = record << C.RECORD_SHIFT;
    if (words[r + C.LIFE] === 0) continue;
    words[r + C.POOL] = poolOf(core, r, ports);
    if (connections.isHalfOpen(record)) halfOpen.push(record);
    else resume(record);
  }
  for (const [pool, used] of ports) services.pools.at(pool)?.take(used);
  // Those of addresses that only old connections leave from.
  services.retirePools();
  for (const record of oldestFirst(core, halfOpen)) resume(record);
}

/** As much as fits beside a record into a number's 53 bits: six days. */
const MOST_AGE = 2 ** 53 / MOST_CONNECTIONS - 1;

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
  const pool = services.pools.indexOf(leavesFrom(table.words, words, r), { address, port: destinationPort(leaving), protocol });
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
  const backends = new Map(set.backends.map((backend) => [backend.name, backend]));
  const byFrontend = new Map(
    set.frontends.map(({ index, address, backend: name }) => {
      const backend = backends.get(name);
      return [index, { backend, sources: sourcesOf(address, backend), places: places.get(name), ways: hops.get(index) }];
    }),
  );
  const others = new Map<string, number | undefined>();
  return (frontend, server, source) => {
    const { backend, sources = [], places: own, ways } = byFrontend.get(frontend) ?? {};
    const place = own?.get(server);
    const turn = backend === undefined ? -1 : sourceIndex(source, sources, backend);
    if (place !== undefined && turn >= 0) return ways?.[wayOf({ sources }, place) + turn] ?? KERNEL_HOP;
    const key = `${frontend} ${server} ${source}`;
    if (!others.has(key)) others.set(key, otherHop(set, hops, frontend, server, source));
    return others.get(key);
  };
}

/** Which of `sources` packets leave from, -1: none. Where they keep their clients' addresses there is one way to a server. */
function sourceIndex(source: number, sources: readonly number[], { mode }: ServiceSet['backends'][number]): number {
  return modes[mode].source === 'pool' ? sources.indexOf(source) : 0;
}

/** The hop from a frontend to a server that is not of its backend, or from a source that is not, any more. */
function otherHop(
  { frontends, backends }: ServiceSet,
  hops: FrontendHops,
  frontend: number,
  server: number,
  source: number,
): number | undefined {
  const from = frontends.find(({ index }) => index === frontend);
  const last = backends.find(({ servers }) => servers.some(({ index }) => index === server));
  const to = last?.servers.find(({ index }) => index === server);
  if (from === undefined || last === undefined || to === undefined) return KERNEL_HOP; // an orphan
  const { onLink, source: kind } = modes[last.mode];
  for (const { index, address, backend: name } of frontends.filter((one) => kind === 'pool' || one.address === from.address)) {
    const backend = backends.find((one) => one.name === name);
    if (backend === undefined || modes[backend.mode].onLink !== onLink) continue;
    const sources = sourcesOf(address, backend);
    const place = backend.servers.findIndex((one) => isSame(one, to));
    const turn = sourceIndex(source, sources, backend);
    if (place >= 0 && turn >= 0) return hops.get(index)?.[wayOf({ sources }, place) + turn] ?? KERNEL_HOP;
  }
  return onLink ? undefined : KERNEL_HOP;
}

function isSame(a: Endpoint, b: Endpoint): boolean {
  return a.address === b.address && a.port === b.port && a.protocol === b.protocol;
}
