/**
 * The life of connections in the flow table, once openings.ts has installed them: following, counting, expiring. Everything
 * here runs for the first and the last packets of a connection, not for those between.
 */

import type { FlowTable } from '../flow/table.ts';
import * as T from '../flow/tcp.ts';
import { ANSWERED, CURRENT, DUE, RX, TOTAL, TX } from '../layout/counters.ts';
import * as E from '../layout/flow.ts';
import { destinationPort } from '../packet/address.ts';
import * as F from '../packet/fields.ts';
import type { Ledger } from './ledger.ts';
import type { LastHops } from './next-hops.ts';
import type { Services } from './services.ts';
import { HANDSHAKE_RESET, SYN_AGAIN, type Trouble } from './trouble.ts';

export interface ConnectionsParts {
  readonly table: FlowTable;
  readonly services: Services;
  readonly ledger: Ledger;
  readonly trouble: Trouble;
  readonly lastHops: LastHops;
}

export class Connections {
  private readonly table: FlowTable;
  private readonly services: Services;
  private readonly ledger: Ledger;
  private readonly trouble: Trouble;
  private readonly lastHops: LastHops;
  private timeouts: Int32Array = new Int32Array(T.STATES);

  constructor({ table, services, ledger, trouble, lastHops }: ConnectionsParts) {
    this.table = table;
    this.services = services;
    this.ledger = ledger;
    this.trouble = trouble;
    this.lastHops = lastHops;
  }

  setTimeouts(timeouts: T.Timeouts): void {
    this.timeouts = T.timeoutTable(timeouts);
  }

  /** Follows a segment with SYN, FIN or RST, or one that arrives before the connection is established. */
  track(slot: number, flags: number): void {
    const { words } = this.table;
    const at = slot << E.ENTRY_SHIFT;
    const word = words[at + E.CONNECTION]!;
    const reply = word & T.REPLY;
    let before = word & ~T.REPLY;
    if ((before & T.STATE_MASK) === T.OPENING && (before & T.ADOPTED) === 0) before = this.awaitAnswer(at, before, flags, reply !== 0);
    if ((flags & (F.SYN | F.RST)) !== 0 && (before & T.STATE_MASK) <= T.ANSWERED)
      this.notice(at, before & T.STATE_MASK, flags, reply !== 0);
    const after = this.count(at, before, T.nextConnection(before, flags, reply !== 0));
    if (after === (word & ~T.REPLY)) return;
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
    if (end < table.capacity) return end;
    this.lastHops.swept();
    return 0;
  }

  private visit(slot: number, now: number): void {
    const at = slot << E.ENTRY_SHIFT;
    this.collect(at);
    if (this.isExpired(at, now) || this.isOrphan(at)) this.remove(slot);
    else this.lastHops.keep(this.table.words[at + E.NEXT_HOP]!);
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
    this.ledger.addBytes(words[at + E.OWNER]!, words[at + E.GENERATION]!, words[at + E.CONNECTION]! & T.REPLY ? RX : TX, bytes);
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
    } else if (isLive && !wasLive) {
      this.ledger.addLoad(owner, generation, 1);
      if ((after & T.ONE_WAY) === 0) this.ledger.add(owner, generation, DUE, 1);
    }
    return after;
  }

  /** Enters in the books whether an opening connection's server answers. Returns the CONNECTION word, marked. */
  private awaitAnswer(at: number, word: number, flags: number, reply: boolean): number {
    const owner = this.table.words[at + E.OWNER]!;
    const generation = this.table.words[at + E.GENERATION]!;
    if (reply) this.ledger.add(owner, generation, ANSWERED, 1);
    if ((word & T.ONE_WAY) === 0) return word;
    // Only the client's half passes: whatever it says after its SYN, it has heard from the server.
    if ((flags & F.SYN) === 0) {
      this.ledger.add(owner, generation, ANSWERED, 1);
      return word;
    }
    if ((word & T.REPEATED) === 0) this.ledger.add(owner, generation, DUE, 1);
    return word | T.REPEATED;
  }

  /** Tells of a handshake that does not go well. */
  private notice(at: number, state: number, flags: number, reply: boolean): void {
    const server = this.table.words[at + E.OWNER]! & 0xffff;
    if (this.isOrphan(at)) return;
    if (reply && (flags & F.RST) !== 0) this.trouble.note(server, HANDSHAKE_RESET);
    else if (!reply && state === T.OPENING && (flags & (F.SYN | F.ACK | F.RST)) === F.SYN) this.trouble.note(server, SYN_AGAIN);
  }
}
