/**
 * Goes on with the flow table of an lb4 that died (kill -9, out of memory, an upgrade): flows, records, counters and the hash key are
 * in shared memory; port pools, loads, lists and free records were in the process, and are rebuilt from those by one walk.
 *
 *     flow ──names──► record ──names──► both its flows       a pair that does not name each other was torn: it goes
 *     owner, generation ──► still what they were?            else its frontend or server is somebody else by now: it goes
 *
 * What frontends and servers were is in shared memory, too (layout/counters.ts: PLACE), so that none is taken for another.
 */
import { Bitmap } from '../flow/bitmap.ts';
import { ANSWER_ONLY } from '../flow/life.ts';
import type { PortPool } from '../flow/port-pool.ts';
import type { FlowTable } from '../flow/table.ts';
import type { Core } from '../forward/core.ts';
import type { Endpoint } from '../forward/endpoints.ts';
import type { Mode } from '../forward/mode.ts';
import { modes } from '../forward/modes.ts';
import type { ServiceSet } from '../forward/service-set.ts';
import { wayOf } from '../forward/services.ts';
import { sourcesOf } from '../forward/sources.ts';
import type { FrontendHops } from '../forward/ways.ts';
import * as C from '../layout/connection.ts';
import * as Flow from '../layout/flow.ts';
import { KERNEL_HOP } from '../layout/hops.ts';
import { MOST_CONNECTIONS } from '../layout/limits.ts';
import { destinationPort, sourcePort } from '../packet/address.ts';

/** By the index of frontend and server, and what packets leave from: the next hop that leads there; undefined where nothing does. */
type HopOf = (frontend: number, server: number, source: number) => number | undefined;

/** What connections of one owner that leave from one address have in common. */
interface Way {
  readonly hop: number;
  /** NONE and undefined where their servers see their clients. */
  readonly pool: number;
  readonly ports: PortPool | undefined;
}

/** Where a connection goes, by the word of its record; undefined: it ends. */
type WayOf = (r: number) => Way | undefined;

/**
 * Takes up the connections in the memory of `core`, to which `set` was applied already. Returns how many go on.
 *
 * Records are walked in their order, once: each names two flows anywhere in the table, which are misses of the cache, and are to be
 * missed once and many at a time. What is walked beside that, flows and records, is walked from end to end.
 * @param hops the ways of `set`
 * @param now CLOCK_MONOTONIC in milliseconds, modulo 2^32
 */
export function recover(core: Core, set: ServiceSet, hops: FrontendHops, now: number): number {
  const { table, records, connections, services, ledger } = core;
  ledger.reopen();
  const kept = new Bitmap(table.end);
  const halfOpen = resumeAll(core, waysOf(core, hopsOf(set, hops), wrapsOf(set)), kept);
  records.recount();
  table.recount(kept, now);
  // Those of addresses that only old connections leave from.
  services.retirePools();
  for (const one of halfOpen.sort()) connections.wait(one % MOST_CONNECTIONS);
  return records.size;
}

/**
 * Has each connection go on that is whole and belongs to somebody, and marks its flows as `kept`; the records of all others are free then.
 * Returns those that may make way, each as {@link ageOf} and record in one number: so nothing is looked up, or called, to sort them.
 */
function resumeAll({ table, records, connections, sweep }: Core, wayOf: WayOf, kept: Bitmap): Float64Array {
  const { words, capacity } = records;
  // As many as there could be: memory that is not written is not there.
  const halfOpen = new Float64Array(capacity);
  let [count, first, touched] = [0, 0, 0];
  for (let record = 0; record < capacity; record++) {
    if (record === touched) touched = sweep.touch(record);
    const r = record << C.RECORD_SHIFT;
    if (words[r + C.LIFE] === 0) continue;
    const isPair = isWhole(table, words, record);
    const way = isPair ? wayOf(r) : undefined;
    if (way === undefined) {
      if (isPair) connections.close(record);
      words[r + C.LIFE] = 0;
      continue;
    }
    kept.add(words[r + C.FIRST]);
    if (words[r + C.SECOND] !== Flow.NONE) kept.add(words[r + C.SECOND]);
    words[r + C.POOL] = way.pool;
    way.ports?.take(sourcePort(table.words[(words[r + C.FIRST] << Flow.ENTRY_SHIFT) + Flow.NEW_PORTS]));
    connections.resume(record, way.hop);
    if (!connections.isListed(record)) continue;
    const seen = table.words[(words[r + C.FIRST] << Flow.ENTRY_SHIFT) + Flow.SEEN];
    if (count === 0) first = seen;
    halfOpen[count++] = ageOf(seen, first) * MOST_CONNECTIONS + record;
  }
  return halfOpen.subarray(0, count);
}

/** As much to either side as fits beside a record into a number's 53 bits: three days. */
const MOST_AGE = 2 ** 52 / MOST_CONNECTIONS - 1;

/** When a client last asked, in milliseconds: the less, the longer it waits. Both as in SEEN, modulo 2^32. */
function ageOf(seen: number, first: number): number {
  return MOST_AGE + Math.max(-MOST_AGE, Math.min(MOST_AGE, (seen - first) | 0));
}

/** Whether a record names two flows (or one, with direct server return) that name it: a pair that does not was torn by a kill. */
function isWhole({ words: flows, end }: FlowTable, words: Int32Array, record: number): boolean {
  const r = record << C.RECORD_SHIFT;
  const second = words[r + C.SECOND];
  return names(flows, words[r + C.FIRST], record, end) && (second === Flow.NONE || names(flows, second, record, end));
}

/** Whether the flow in a slot is alive and names the record. */
function names(flows: Int32Array, slot: number, record: number, end: number): boolean {
  if (slot < 0 || slot >= end) return false;
  const at = slot << Flow.ENTRY_SHIFT;
  return (flows[at + Flow.STATE] & Flow.PRESENCE) === Flow.LIVE && flows[at + Flow.CONNECTION] === record;
}

/**
 * The ways of connections whose frontend and server are in the set, and still who they were: each is found out once, by the first flow that
 * goes there, and known by its owner and source from then on.
 */
function waysOf({ table, records, connections, services }: Core, hopOf: HopOf, wraps: (server: number) => boolean): WayOf {
  const { words } = records;
  const flows = table.words;
  const known = new Map<number, Map<number, Way | undefined>>();
  const find = (r: number, source: number): Way | undefined => {
    const hop = hopOf(words[r + C.OWNER] >>> 16, words[r + C.OWNER] & 0xffff, source);
    if (hop === undefined) return undefined;
    const first = words[r + C.FIRST] << Flow.ENTRY_SHIFT;
    const protocol = (flows[first + Flow.STATE] >>> Flow.PROTOCOL_SHIFT) & 0xff;
    const server = { address: flows[first + Flow.NEW_DESTINATION], port: destinationPort(flows[first + Flow.NEW_PORTS]), protocol };
    const isSeen = words[r + C.POOL] === Flow.NONE;
    // Its mode was another one: what was written down of it cannot go by the way that its server has now.
    if (((flows[first + Flow.STATE] & Flow.WRAPPED) !== 0) !== wraps(words[r + C.OWNER] & 0xffff)) return undefined;
    // Its answers would not be taken.
    if (isSeen && words[r + C.SECOND] !== Flow.NONE && !services.returns(server)) return undefined;
    if (isSeen) return { hop, pool: Flow.NONE, ports: undefined };
    if (!services.isSource(source)) return undefined;
    const pool = services.pools.indexOf(source, server);
    return { hop, pool, ports: services.pools.at(pool) };
  };
  return (r) => {
    // A way of one answer is not worth going on with: its client asks again.
    if (connections.isOrphan(r >>> C.RECORD_SHIFT) || (words[r + C.LIFE] & ANSWER_ONLY) !== 0) return undefined;
    const owner = words[r + C.OWNER];
    // With direct server return packets leave from their clients, of whom there are as many as connections: there is one way to a server.
    const source = words[r + C.POOL] === Flow.NONE ? 0 : flows[(words[r + C.FIRST] << Flow.ENTRY_SHIFT) + Flow.NEW_SOURCE];
    let bySource = known.get(owner);
    if (bySource === undefined) known.set(owner, (bySource = new Map()));
    if (!bySource.has(source)) bySource.set(source, find(r, source));
    return bySource.get(source);
  };
}

/** Tells whether packets to a server, by its index, are wrapped. */
function wrapsOf({ backends }: ServiceSet): (server: number) => boolean {
  const wrapped = backends.filter(({ mode }) => modes[mode].tunnel !== undefined);
  const servers = new Set(wrapped.flatMap((backend) => backend.servers.map(({ index }) => index)));
  return (server) => servers.has(server);
}

/**
 * By what leads there now, of whichever frontend at this address: a frontend may have changed its backend, or that its name. Where
 * nothing does, by the kernel's routing; with L2 DSR and tunnels, whose address is the kernel's own, not at all.
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
  return (frontend, server, source) => {
    const { backend, sources = [], places: own, ways } = byFrontend.get(frontend) ?? {};
    const place = own?.get(server);
    const turn = backend === undefined ? -1 : sourceIndex(source, sources, backend);
    if (place !== undefined && turn >= 0) return ways?.[wayOf({ sources }, place) + turn] ?? KERNEL_HOP;
    return otherHop(set, hops, frontend, server, source);
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
  const { onLink, tunnel, source: kind }: Mode = modes[last.mode];
  for (const { index, address, backend: name } of frontends.filter((one) => kind === 'pool' || one.address === from.address)) {
    const backend = backends.find((one) => one.name === name);
    const mode: Mode | undefined = backend && modes[backend.mode];
    if (backend === undefined || mode?.onLink !== onLink || mode.tunnel !== tunnel) continue;
    const sources = sourcesOf(address, backend);
    const place = backend.servers.findIndex((one) => isSame(one, to));
    const turn = sourceIndex(source, sources, backend);
    if (place >= 0 && turn >= 0) return hops.get(index)?.[wayOf({ sources }, place) + turn] ?? KERNEL_HOP;
  }
  return onLink || tunnel !== undefined ? undefined : KERNEL_HOP;
}

function isSame(a: Endpoint, b: Endpoint): boolean {
  return a.address === b.address && a.port === b.port && a.protocol === b.protocol;
}
