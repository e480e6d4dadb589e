/**
 * The life of connections in the flow table: opening (decide once), following, expiring. Everything here runs for the
 * first and the last packets of a connection, not for those between.
 */
import * as E from '../flow/entry.ts';
import type { PortPool } from '../flow/port-pool.ts';
import type { FlowTable } from '../flow/table.ts';
import * as T from '../flow/tcp.ts';
import { destinationPort, sourcePort, swapPorts } from '../packet/address.ts';
import { delta, fold } from '../packet/checksum.ts';
import type { Opening, Rewrite } from './mode.ts';
import { serverHop } from './next-hops.ts';
import type { Frontend, Services } from './services.ts';
import { CURRENT, frontendRow, RX, serverRow, TOTAL, TX } from './statistics.ts';
import { Verdict } from './verdict.ts';

export class Connections {
  private readonly table: FlowTable;
  private readonly services: Services;
  private readonly statistics: Float64Array;
  private readonly maximum: number;
  private timeouts: Int32Array = new Int32Array(T.STATES);
  private readonly rewrite: Rewrite = { source: 0, destination: 0, ports: 0 };
  private readonly opening: Opening;

  /** @param maximum live entries beyond which new connections are refused: the table stays at most half full */
  constructor(table: FlowTable, services: Services, statistics: Float64Array, maximum: number) {
    this.table = table;
    this.services = services;
    this.statistics = statistics;
    this.maximum = maximum;
    this.opening = { source: 0, destination: 0, ports: 0, serverAddress: 0, serverPort: 0, pool: undefined };
  }

  setTimeouts(timeouts: T.Timeouts): void {
    this.timeouts = T.timeoutTable(timeouts);
  }

  /**
   * Chooses a server and installs both directions. Returns the verdict: `opened`, or why not.
   * @param clientHop next hop back to the client
   */
  open(frontend: Frontend, source: number, destination: number, ports: number, clientHop: number, now: number): number {
    if (frontend.scheduler === undefined) return Verdict.resetNoServer;
    const position = frontend.scheduler.pick(source, sourcePort(ports));
    const server = frontend.servers[position]!;
    const poolIndex = frontend.pools[position] ?? E.NONE;
    const { opening, rewrite, table } = this;
    if (table.size + 2 > this.maximum) return Verdict.dropTableFull;
    opening.source = source;
    opening.destination = destination;
    opening.ports = ports;
    opening.serverAddress = server.address;
    opening.serverPort = server.port;
    opening.pool = this.services.pools[poolIndex];
    const directions = frontend.mode(opening, rewrite);
    if (directions === 0) return Verdict.resetNoPort;

    const owner = (frontend.index << 16) | server.index;
    const { source: s, destination: d, ports: p } = rewrite;
    const state = directions === 1 ? T.OPENING | T.ONE_WAY : T.OPENING;
    const slot = this.install(source, destination, ports, s, d, p, serverHop(server.index), owner, state, now);
    if (slot === E.NONE) return this.refuse(opening.pool, p);
    if (directions === 1) return Verdict.opened;
    const twin = this.install(d, s, swapPorts(p), destination, source, swapPorts(ports), clientHop, owner, T.OPENING | T.REPLY, now);
    if (twin === E.NONE) {
      table.remove(slot);
      return this.refuse(opening.pool, p);
    }
    const { words } = table;
    words[(twin << E.ENTRY_SHIFT) + E.POOL] = poolIndex;
    words[(twin << E.ENTRY_SHIFT) + E.TWIN] = slot;
    words[(slot << E.ENTRY_SHIFT) + E.TWIN] = twin;
    return Verdict.opened;
  }

  /** Follows a segment with SYN, FIN or RST, or one that arrives before the connection is established. */
  track(slot: number, flags: number): void {
    const { words } = this.table;
    const at = slot << E.ENTRY_SHIFT;
    const word = words[at + E.CONNECTION]!;
    const before = word & ~T.REPLY;
    const reply = word & T.REPLY;
    const after = this.count(before, T.nextConnection(before, flags, reply !== 0), words[at + E.OWNER]!);
    if (after === before) return;
    words[at + E.CONNECTION] = after | reply;
    const twin = words[at + E.TWIN]!;
    if (twin !== E.NONE) words[(twin << E.ENTRY_SHIFT) + E.CONNECTION] = after | (reply ^ T.REPLY);
  }

  /**
   * Whether the flow must make way for a SYN: its server takes no connections any more, and it carries none (nothing
   * was answered yet, or it has ended).
   */
  isStale(slot: number): boolean {
    const at = slot << E.ENTRY_SHIFT;
    const state = this.table.words[at + E.CONNECTION]! & T.STATE_MASK;
    const idle = state === T.OPENING || state >= T.TIME_WAIT;
    return idle && !this.services.isEligible(this.table.words[at + E.OWNER]! & 0xffff);
  }

  /** Takes both directions out of the table and gives the port back. */
  remove(slot: number): void {
    const { words } = this.table;
    const at = slot << E.ENTRY_SHIFT;
    const twin = words[at + E.TWIN]!;
    const connection = words[at + E.CONNECTION]!;
    if (connection & T.COUNTED && (connection & T.STATE_MASK) < T.TIME_WAIT) this.addCurrent(words[at + E.OWNER]!, -1);
    this.removeEntry(slot);
    if (twin !== E.NONE) this.removeEntry(twin);
  }

  /**
   * Visits `count` slots from `from` on: collects their byte counts, removes connections that have been idle for too
   * long. Returns where to go on. The whole table should be visited once a second.
   */
  sweep(from: number, count: number, now: number): number {
    const { words, capacity } = this.table;
    const end = Math.min(from + count, capacity);
    for (let slot = from; slot < end; slot++) {
      const at = slot << E.ENTRY_SHIFT;
      if (words[at + E.STATE] !== E.LIVE_TCP) continue;
      this.collect(at);
      if (this.isExpired(at, now)) this.remove(slot);
    }
    return end === capacity ? 0 : end;
  }

  private isExpired(at: number, now: number): boolean {
    const { words } = this.table;
    const timeout = this.timeouts[words[at + E.CONNECTION]! & T.STATE_MASK]!;
    if ((now - words[at + E.SEEN]!) >>> 0 <= timeout) return false;
    const twin = words[at + E.TWIN]!;
    return twin === E.NONE || (now - words[(twin << E.ENTRY_SHIFT) + E.SEEN]!) >>> 0 > timeout;
  }

  private removeEntry(slot: number): void {
    const { words } = this.table;
    const at = slot << E.ENTRY_SHIFT;
    this.collect(at);
    const pool = words[at + E.POOL]!;
    if (pool !== E.NONE) this.services.pools[pool]!.release(destinationPort(words[at + E.PORTS]!));
    this.table.remove(slot);
  }

  /** Moves a flow's byte count to its frontend's and its server's. */
  private collect(at: number): void {
    const { words } = this.table;
    const bytes = words[at + E.BYTES]! >>> 0;
    if (bytes === 0) return;
    words[at + E.BYTES] = 0;
    const column = words[at + E.CONNECTION]! & T.REPLY ? RX : TX;
    const owner = words[at + E.OWNER]!;
    this.statistics[frontendRow(owner >>> 16) + column]! += bytes;
    this.statistics[serverRow(owner & 0xffff) + column]! += bytes;
  }

  /** Counts a connection when it leaves the handshake, and again when it has ended. Returns `after`, marked. */
  private count(before: number, after: number, owner: number): number {
    const state = after & T.STATE_MASK;
    if (state >= T.ESTABLISHED && state <= T.TIME_WAIT && (after & T.COUNTED) === 0) {
      after |= T.COUNTED;
      this.statistics[frontendRow(owner >>> 16) + TOTAL]!++;
      this.statistics[serverRow(owner & 0xffff) + TOTAL]!++;
      this.addCurrent(owner, 1);
    }
    if (after & T.COUNTED && state >= T.TIME_WAIT && (before & T.STATE_MASK) < T.TIME_WAIT) this.addCurrent(owner, -1);
    return after;
  }

  private addCurrent(owner: number, change: number): void {
    this.statistics[frontendRow(owner >>> 16) + CURRENT]! += change;
    this.statistics[serverRow(owner & 0xffff) + CURRENT]! += change;
  }

  private refuse(pool: PortPool | undefined, ports: number): number {
    pool?.release(sourcePort(ports));
    return Verdict.dropTableFull;
  }

  /** Writes one direction: from (source, destination, ports) to (s, d, p). */
  private install(
    source: number,
    destination: number,
    ports: number,
    s: number,
    d: number,
    p: number,
    hop: number,
    owner: number,
    connection: number,
    now: number,
  ): number {
    const slot = this.table.reserve(source, destination, ports);
    if (slot === E.NONE) return slot;
    const { words } = this.table;
    const at = slot << E.ENTRY_SHIFT;
    const addresses = fold(delta(source, s) + delta(destination, d));
    words[at + E.NEW_SOURCE] = s;
    words[at + E.NEW_DESTINATION] = d;
    words[at + E.NEW_PORTS] = p;
    words[at + E.DELTAS] = fold(addresses + delta(ports, p)) | (addresses << 16);
    words[at + E.NEXT_HOP] = hop;
    words[at + E.TWIN] = E.NONE;
    words[at + E.CONNECTION] = connection;
    words[at + E.SEEN] = now;
    words[at + E.POOL] = E.NONE;
    words[at + E.BYTES] = 0;
    words[at + E.OWNER] = owner;
    this.table.publish(slot);
    return slot;
  }
}
