/**
 * The life of connections in the flow table: opening (decide once), following, expiring. Everything here runs for the
 * first and the last packets of a connection, not for those between.
 */
import { isFull, leastLoaded } from '../balance/index.ts';
import * as E from '../flow/entry.ts';
import type { FlowTable } from '../flow/table.ts';
import * as T from '../flow/tcp.ts';
import { destinationPort, sourcePort, swapPorts } from '../packet/address.ts';
import { delta, fold } from '../packet/checksum.ts';
import * as F from '../packet/fields.ts';
import type { Ledger } from './ledger.ts';
import type { Opening, Rewrite } from './mode.ts';
import { serverHop } from './next-hops.ts';
import type { Frontend, Services } from './services.ts';
import { CURRENT, RX, TOTAL, TX } from './statistics.ts';
import { HANDSHAKE_RESET, SYN_AGAIN, type Trouble } from './trouble.ts';
import { Verdict } from './verdict.ts';

export interface ConnectionsParts {
  readonly table: FlowTable;
  readonly services: Services;
  readonly ledger: Ledger;
  readonly trouble: Trouble;
  /** Live entries beyond which new connections are refused: the table stays at most half full. */
  readonly maximum: number;
}

export class Connections {
  private readonly table: FlowTable;
  private readonly services: Services;
  private readonly ledger: Ledger;
  private readonly trouble: Trouble;
  private readonly maximum: number;
  private timeouts: Int32Array = new Int32Array(T.STATES);
  private readonly rewrite: Rewrite = { source: 0, destination: 0, ports: 0 };
  private readonly opening: Opening = { source: 0, destination: 0, ports: 0, serverAddress: 0, serverPort: 0, pool: undefined };

  constructor({ table, services, ledger, trouble, maximum }: ConnectionsParts) {
    this.table = table;
    this.services = services;
    this.ledger = ledger;
    this.trouble = trouble;
    this.maximum = maximum;
  }

  setTimeouts(timeouts: T.Timeouts): void {
    this.timeouts = T.timeoutTable(timeouts);
  }

  /**
   * Chooses a server for a SYN and installs both directions. Returns the slot of the client's, or the table's scratch slot
   * where the packet goes without a flow, or the complement (~) of the verdict that says why not.
   * @param clientHop next hop back to the client
   */
  open(frontend: Frontend, source: number, destination: number, ports: number, clientHop: number, now: number): number {
    const { scheduler, candidates } = frontend;
    if (scheduler === undefined) return ~Verdict.resetNoServer;
    if (this.services.isFrontendFull(frontend)) return ~Verdict.resetFull;
    const { loads } = this.ledger;
    const picked = scheduler.pick(source, sourcePort(ports));
    const position = isFull(candidates[picked]!, loads) ? leastLoaded(candidates, loads, picked) : picked;
    if (position < 0) return ~Verdict.resetFull;
    this.describe(source, destination, ports);
    const slot = this.install(frontend, position, clientHop, T.OPENING, now);
    // The next segment will go where the hash says: so may this one, if that is the same place.
    const isHashed = frontend.adopts && position === picked;
    return slot === ~Verdict.dropTableFull && isHashed ? this.withoutFlow(frontend, position) : slot;
  }

  /**
   * The same for a segment in mid-stream, where `frontend.adopts`: opened by another balancer, or by this one in an earlier
   * life. The hash alone knows where it belongs, whatever limits say.
   */
  adopt(frontend: Frontend, source: number, destination: number, ports: number, now: number): number {
    if (frontend.scheduler === undefined) return ~Verdict.resetNoServer;
    const position = frontend.scheduler.pick(source, sourcePort(ports));
    this.describe(source, destination, ports);
    const slot = this.install(frontend, position, E.NONE, T.OPENING | T.ADOPTED, now);
    return slot === ~Verdict.dropTableFull ? this.withoutFlow(frontend, position) : slot;
  }

  /** Follows a segment with SYN, FIN or RST, or one that arrives before the connection is established. */
  track(slot: number, flags: number): void {
    const { words } = this.table;
    const at = slot << E.ENTRY_SHIFT;
    const word = words[at + E.CONNECTION]!;
    const before = word & ~T.REPLY;
    const reply = word & T.REPLY;
    if ((flags & (F.SYN | F.RST)) !== 0 && (before & T.STATE_MASK) <= T.ANSWERED)
      this.notice(at, before & T.STATE_MASK, flags, reply !== 0);
    const after = this.count(at, before, T.nextConnection(before, flags, reply !== 0));
    if (after === before) return;
    words[at + E.CONNECTION] = after | reply;
    const twin = words[at + E.TWIN]!;
    if (twin !== E.NONE) words[(twin << E.ENTRY_SHIFT) + E.CONNECTION] = after | (reply ^ T.REPLY);
  }

  /**
   * Whether the flow must make way for a SYN: it carries no connection (nothing was answered yet, or it has ended), and its
   * server would not get this one.
   */
  isStale(slot: number): boolean {
    const { words } = this.table;
    const at = slot << E.ENTRY_SHIFT;
    const owner = words[at + E.OWNER]!;
    const state = words[at + E.CONNECTION]! & T.STATE_MASK;
    if (state === T.OPENING) return this.isOrphan(at) || !this.services.isEligible(owner & 0xffff);
    return state >= T.TIME_WAIT && (this.isOrphan(at) || !this.services.takes(owner >>> 16, owner & 0xffff));
  }

  /** Takes both directions out of the table and gives the port back. */
  remove(slot: number): void {
    const { words } = this.table;
    const at = slot << E.ENTRY_SHIFT;
    const twin = words[at + E.TWIN]!;
    const connection = words[at + E.CONNECTION]! & ~T.REPLY;
    this.count(at, connection, (connection & ~T.STATE_MASK) | T.CLOSED);
    this.removeEntry(slot);
    if (twin !== E.NONE) this.removeEntry(twin);
  }

  /**
   * Visits `count` slots from `from` on: collects their byte counts, removes connections that have been idle for too
   * long, and those whose frontend or server is no more. Returns where to go on. The whole table should be visited once
   * a second; what is empty of it costs next to nothing.
   */
  sweep(from: number, count: number, now: number): number {
    const { table } = this;
    const end = Math.min(from + count, table.capacity);
    let slot = table.skipEmpty(from);
    while (slot < end) {
      if (table.isLive(slot)) this.visit(slot, now);
      slot = table.skipEmpty(slot + 1);
    }
    return end === table.capacity ? 0 : end;
  }

  private visit(slot: number, now: number): void {
    const at = slot << E.ENTRY_SHIFT;
    this.collect(at);
    if (this.isExpired(at, now) || this.isOrphan(at)) this.remove(slot);
  }

  private isExpired(at: number, now: number): boolean {
    const { words } = this.table;
    const timeout = T.timeoutOf(this.timeouts, words[at + E.CONNECTION]!);
    if ((now - words[at + E.SEEN]!) >>> 0 <= timeout) return false;
    const twin = words[at + E.TWIN]!;
    return twin === E.NONE || (now - words[(twin << E.ENTRY_SHIFT) + E.SEEN]!) >>> 0 > timeout;
  }

  /** Whether the frontend or the server it was opened for has left the set. */
  private isOrphan(at: number): boolean {
    const { words } = this.table;
    return words[at + E.GENERATION] !== this.ledger.generation(words[at + E.OWNER]!);
  }

  private removeEntry(slot: number): void {
    const { words } = this.table;
    const at = slot << E.ENTRY_SHIFT;
    this.collect(at);
    const pool = words[at + E.POOL]!;
    if (pool !== E.NONE) {
      this.services.pools.release(pool, destinationPort(words[at + E.PORTS]!));
      this.ledger.addPorts(words[at + E.OWNER]!, words[at + E.GENERATION]!, -1);
    }
    this.table.remove(slot);
  }

  /** Moves a flow's byte count to its frontend's and its server's. */
  private collect(at: number): void {
    const { words } = this.table;
    const bytes = words[at + E.BYTES]! >>> 0;
    if (bytes === 0) return;
    words[at + E.BYTES] = 0;
    this.ledger.add(words[at + E.OWNER]!, words[at + E.GENERATION]!, words[at + E.CONNECTION]! & T.REPLY ? RX : TX, bytes);
  }

  /**
   * Enters a change of state in the books: a connection counts when it leaves the handshake, and again when it has ended;
   * it is a load from its opening on. Returns `after`, marked.
   */
  private count(at: number, before: number, after: number): number {
    const owner = this.table.words[at + E.OWNER]!;
    const generation = this.table.words[at + E.GENERATION]!;
    const state = after & T.STATE_MASK;
    if (state >= T.ESTABLISHED && state <= T.TIME_WAIT && (after & T.COUNTED) === 0) {
      after |= T.COUNTED;
      this.ledger.add(owner, generation, TOTAL, 1);
      this.ledger.add(owner, generation, CURRENT, 1);
    }
    const wasLive = (before & T.STATE_MASK) < T.TIME_WAIT;
    const isLive = state < T.TIME_WAIT;
    if (wasLive && !isLive) {
      if (after & T.COUNTED) this.ledger.add(owner, generation, CURRENT, -1);
      this.ledger.addLoad(owner, generation, -1);
    } else if (isLive && !wasLive) this.ledger.addLoad(owner, generation, 1);
    return after;
  }

  /** Tells of a handshake that does not go well. */
  private notice(at: number, state: number, flags: number, reply: boolean): void {
    const server = this.table.words[at + E.OWNER]! & 0xffff;
    if (this.isOrphan(at)) return;
    if (reply && (flags & F.RST) !== 0) this.trouble.note(server, HANDSHAKE_RESET);
    else if (!reply && state === T.OPENING && (flags & (F.SYN | F.ACK | F.RST)) === F.SYN) this.trouble.note(server, SYN_AGAIN);
  }

  /** Decides the rewrite towards the server at `position` and installs it. Returns as {@link open} does. */
  private install(frontend: Frontend, position: number, clientHop: number, state: number, now: number): number {
    const { opening, rewrite, table, services } = this;
    if (table.size + 2 > this.maximum) return ~Verdict.dropTableFull;
    const pool = frontend.pools[position] ?? E.NONE;
    opening.pool = services.pools.at(pool);
    const directions = this.decide(frontend, position);
    if (directions === 0) return ~Verdict.resetNoPort;

    const { source, destination, ports } = opening;
    const { source: s, destination: d, ports: p } = rewrite;
    const slot = table.reserve(source, destination, ports);
    const twin = directions === 2 ? table.reserve(d, s, swapPorts(p), slot) : E.NONE;
    if (slot === E.NONE || (directions === 2 && twin === E.NONE)) {
      if (pool !== E.NONE) services.pools.release(pool, sourcePort(p));
      return ~Verdict.dropTableFull;
    }
    const server = frontend.servers[position]!.index;
    const owner = (frontend.index << 16) | server;
    const generation = this.ledger.generation(owner);
    if (directions === 2) {
      this.writeRewrite(twin, destination, source, swapPorts(ports), clientHop);
      this.writeLife(twin, slot, state | T.REPLY, pool, owner, generation, now);
      this.ledger.addPorts(owner, generation, 1);
    }
    this.writeRewrite(slot, s, d, p, serverHop(server));
    this.writeLife(slot, twin, directions === 1 ? state | T.ONE_WAY : state, E.NONE, owner, generation, now);
    this.ledger.addLoad(owner, generation, 1);
    return slot;
  }

  /** No room for a flow: one packet goes by the scratch entry. */
  private withoutFlow(frontend: Frontend, position: number): number {
    const { opening, rewrite, table } = this;
    this.decide(frontend, position);
    const slot = table.borrow(opening.source, opening.destination, opening.ports);
    this.writeRewrite(slot, rewrite.source, rewrite.destination, rewrite.ports, serverHop(frontend.servers[position]!.index));
    // No state at all: the pipeline examines the packet before it goes.
    table.words[(slot << E.ENTRY_SHIFT) + E.CONNECTION] = 0;
    return slot;
  }

  private describe(source: number, destination: number, ports: number): void {
    this.opening.source = source;
    this.opening.destination = destination;
    this.opening.ports = ports;
  }

  /** Has the mode fill in the rewrite of what was described, towards the server at `position`. */
  private decide(frontend: Frontend, position: number): number {
    const { address, port } = frontend.servers[position]!;
    this.opening.serverAddress = address;
    this.opening.serverPort = port;
    return frontend.mode(this.opening, this.rewrite);
  }

  /** Writes what becomes of the packets of a reserved entry: they leave as (`s`, `d`, `p`) by `hop`. */
  private writeRewrite(slot: number, s: number, d: number, p: number, hop: number): void {
    const { words } = this.table;
    const at = slot << E.ENTRY_SHIFT;
    const addresses = fold(delta(words[at + E.SOURCE]!, s) + delta(words[at + E.DESTINATION]!, d));
    words[at + E.NEW_SOURCE] = s;
    words[at + E.NEW_DESTINATION] = d;
    words[at + E.NEW_PORTS] = p;
    words[at + E.DELTAS] = fold(addresses + delta(words[at + E.PORTS]!, p)) | (addresses << 16);
    words[at + E.NEXT_HOP] = hop;
  }

  /** Writes the rest of a reserved entry, and publishes it. */
  private writeLife(slot: number, twin: number, connection: number, pool: number, owner: number, generation: number, now: number): void {
    const { words } = this.table;
    const at = slot << E.ENTRY_SHIFT;
    words[at + E.TWIN] = twin;
    words[at + E.CONNECTION] = connection;
    words[at + E.SEEN] = now;
    words[at + E.POOL] = pool;
    words[at + E.BYTES] = 0;
    words[at + E.OWNER] = owner;
    words[at + E.GENERATION] = generation;
    this.table.publish(slot);
  }
}
