/**
 * The life of connections, once opener.ts has installed them: following, counting, making way, ending. Everything here runs for
 * the first and the last packets of a connection, not for those between; sweep.ts looks after them meanwhile.
 */
import { bytesOf, bytesSince, idleOf, settleBytes } from '../flow/counts.ts';
import { ACKNOWLEDGES, BELONGS, CHALLENGES, ESTABLISHES, HEARD, OPENS, RESETS, REVIVES, type Segment } from '../flow/evidence.ts';
import { type HalfOpen, listOf, poolOf } from '../flow/half-open.ts';
import * as T from '../flow/life.ts';
import type { Protocol } from '../flow/protocol.ts';
import { byNumber } from '../flow/protocols.ts';
import type { Records } from '../flow/records.ts';
import type { FlowTable } from '../flow/table.ts';
import * as C from '../layout/connection.ts';
import { ANSWERED, CURRENT, DUE, RX, TOTAL, TX } from '../layout/counters.ts';
import * as Flow from '../layout/flow.ts';
import * as Hop from '../layout/hops.ts';
import { destinationPort, sourcePort } from '../packet/address.ts';
import type { Bonds } from './affinity.ts';
import { type EndingLog, How } from './endings.ts';
import type { Ledger } from './ledger.ts';
import type { LastHops } from './next-hops.ts';
import type { Services } from './services.ts';
import { CLAIMED_UNREACHABLE, HANDSHAKE_RESET, PORT_UNREACHABLE, type Signals, SYN_AGAIN } from './signals.ts';
import type { SourceCounts } from './source-counts.ts';

export interface ConnectionsParts {
  readonly table: FlowTable;
  readonly records: Records;
  readonly halfOpen: HalfOpen;
  /** Flows of datagrams, all of them. */
  readonly datagrams: HalfOpen;
  readonly services: Services;
  readonly ledger: Ledger;
  readonly signals: Signals;
  readonly lastHops: LastHops;
  readonly bonds: Bonds;
  readonly endings: EndingLog;
  readonly sourceCounts: SourceCounts;
}

/** Half-open connections may hold so much of the records and of each pool's ports; beyond half of that they are given less time. */
const SHARE = 1 / 4;
/** Flows of datagrams so much of the records, and of the ports, which are theirs alone: behind the rest a port waits for late answers; … */
const DATAGRAM_SHARE = 1 / 2;
const DATAGRAM_PORTS = 7 / 8;
/** … but so many of either may be in any case. */
const LEAST = 1024;
/** A handshake that is not complete after so many milliseconds makes way for others under their limits. */
const STALE_MS = 1000;
/** The same of an established flow of datagrams: keepalives are 25 s apart at most (RFC 7675, RFC 5626, WireGuard). */
const QUIET_MS = 30_000;
/** Flows of datagrams that are looked at, from the oldest on, for one that may go; and half-open connections. */
const LOOKS = 16;
const HALF_OPEN_LOOKS = 4;
/** What goes by the entry itself, and renews it. */
const RENEWS = BELONGS | ESTABLISHES | RESETS | CHALLENGES | REVIVES;

/** The connections of one core, from their first packet's flow to their last port. */
export class Connections {
  readonly #table: FlowTable;
  readonly #records: Records;
  readonly #halfOpen: HalfOpen;
  readonly #datagrams: HalfOpen;
  readonly #services: Services;
  readonly #ledger: Ledger;
  readonly #signals: Signals;
  readonly #lastHops: LastHops;
  readonly #bonds: Bonds;
  readonly #endings: EndingLog;
  readonly #sourceCounts: SourceCounts;
  readonly #share: number;
  readonly #datagramShare: number;
  #evicted = 0;
  #evictedDatagrams = 0;
  #completed = 0;

  constructor(parts: ConnectionsParts) {
    const { table, records, halfOpen, datagrams, services, ledger, signals, lastHops, bonds, endings, sourceCounts } = parts;
    this.#table = table;
    this.#records = records;
    this.#halfOpen = halfOpen;
    this.#datagrams = datagrams;
    this.#services = services;
    this.#ledger = ledger;
    this.#signals = signals;
    this.#lastHops = lastHops;
    this.#bonds = bonds;
    this.#endings = endings;
    this.#sourceCounts = sourceCounts;
    this.#share = Math.max(LEAST, records.capacity * SHARE);
    this.#datagramShare = Math.max(LEAST, records.capacity * DATAGRAM_SHARE);
  }

  /** How many may be half-open at a time. */
  get mostHalfOpen(): number {
    return Math.min(this.#share, this.#records.capacity);
  }

  /** Half-open connections that had to make way, since the start. */
  get evicted(): number {
    return this.#evicted;
  }

  /** Handshakes that both sides have completed, since the start. */
  get completed(): number {
    return this.#completed;
  }

  /** Those evicted of flows of datagrams, which may be established. */
  get evictedDatagrams(): number {
    return this.#evictedDatagrams;
  }

  /**
   * Has the connection of a flow learn from a segment: one with SYN, FIN or RST, or one that arrives while it is not established. Returns
   * the slot by which the segment goes: the flow's own, or a copy where it has shown nothing.
   */
  follow(slot: number, segment: Segment): number {
    const flows = this.#table.words;
    const at = slot << Flow.ENTRY_SHIFT;
    const record = flows[at + Flow.CONNECTION];
    const r = record << C.RECORD_SHIFT;
    const connections = this.#records.words;
    const before = connections[r + C.LIFE];
    if (before & T.ANSWER_ONLY) return this.#answer(record, slot, segment);
    segment.isReply = connections[r + C.FIRST] !== slot;
    const opposite = segment.isReply ? connections[r + C.FIRST] : connections[r + C.SECOND];
    const other = opposite === Flow.NONE ? -1 : opposite << Flow.ENTRY_SHIFT;
    const protocol = protocolOf(flows, at);
    const shown = protocol.weigh(flows, at, other, before, segment);
    const marked = this.#tell(r, before, shown, segment);
    if (shown === 0) return this.#table.copy(slot);
    if (shown & OPENS) this.#ask(record, before, segment.now);
    protocol.remember(flows, at, other, shown, segment);
    const after = this.#count(record, before, protocol.next(marked, shown, segment.isReply));
    connections[r + C.LIFE] = after;
    if (T.isFast(before) !== T.isFast(after) || T.isReplyFast(before) !== T.isReplyFast(after)) this.#setFast(r, after);
    if (((before ^ after) & T.STATE_MASK) !== 0) this.bind(record, segment.now);
    if (T.isHeard(after) && !T.isHeard(before)) this.noteClient(r);
    return this.#goesBy(slot, shown, after, segment);
  }

  /** Tells by which link the client comes of the connection with the record at word `r`, once both sides of it are heard (links.ts). */
  noteClient(r: number): void {
    const { words } = this.#records;
    if (!T.isHeard(words[r + C.LIFE]) || words[r + C.SECOND] === Flow.NONE) return;
    this.#noteClientOf(words[r + C.SECOND] << Flow.ENTRY_SHIFT);
  }

  /** @param at the flow of a server's answers, at that word */
  #noteClientOf(at: number): void {
    const flows = this.#table.words;
    if ((flows[at + Flow.STATE] & Flow.GUARDED) !== 0) this.#lastHops.noteClient(flows[at + Flow.NEXT_HOP]);
  }

  /** The client of a connection that is established, or has been, stays with its server (affinity.ts). */
  bind(record: number, now: number): void {
    const r = record << C.RECORD_SHIFT;
    const { words } = this.#records;
    const life = words[r + C.LIFE];
    if ((life & (T.COUNTED | T.ANSWER_ONLY)) !== T.COUNTED) return;
    const owner = words[r + C.OWNER];
    const bond = this.#services.bondOf(owner >>> 16);
    if (bond === undefined) return;
    this.#bonds.renew(
      bond,
      this.#table.words[(words[r + C.FIRST] << Flow.ENTRY_SHIFT) + Flow.SOURCE],
      owner & 0xffff,
      now,
      // Who hears no answer proves nothing: a SYN and its ACK are forged blind.
      (life & (T.DATAGRAM | T.ONE_WAY)) === 0,
    );
  }

  /**
   * Whether the flow must make way for a SYN: it carries no connection (nothing was answered yet, or it has ended), and its
   * server would not get this one; or the kernel may still write to what is there. Of datagrams, which all may open, only the client's ask.
   */
  isStale(slot: number, now: number): boolean {
    const r = this.#table.words[(slot << Flow.ENTRY_SHIFT) + Flow.CONNECTION] << C.RECORD_SHIFT;
    const words = this.#records.words;
    const owner = words[r + C.OWNER];
    const life = words[r + C.LIFE];
    const state = life & T.STATE_MASK;
    if ((life & T.DATAGRAM) !== 0 && (slot !== words[r + C.FIRST] || (life & T.ANSWER_ONLY) !== 0)) return false;
    if (state === T.OPENING) return this.#isOrphan(r) || !this.#services.isEligible(owner & 0xffff);
    if (state < T.TIME_WAIT) return false;
    return this.#isOrphan(r) || !this.#services.takes(owner >>> 16, owner & 0xffff) || (slot === words[r + C.FIRST] && this.#rests(r, now));
  }

  /** The one answer that a record of ANSWER_ONLY has waited for: it takes the way with it. */
  #answer(record: number, slot: number, { payload, now }: Segment): number {
    const { words } = this.#table;
    const at = slot << Flow.ENTRY_SHIFT;
    words[at + Flow.BYTES] += payload;
    this.#noteAnswer(record << C.RECORD_SHIFT);
    this.#noteClientOf(at);
    const copy = this.#table.copy(slot);
    // Those of a client's port share it where servers see it (opener.ts): one for each datagram.
    if (words[at + Flow.ORIGIN] > 0) {
      words[at + Flow.ORIGIN]--;
      words[at + Flow.SEEN] = now;
      return copy;
    }
    this.end(record, How.answered, now);
    return copy;
  }

  #rests(r: number, now: number): boolean {
    const { words } = this.#records;
    return this.#table.rests(words[r + C.FIRST], now) || (words[r + C.SECOND] !== Flow.NONE && this.#table.rests(words[r + C.SECOND], now));
  }

  /** The flow of the other direction of a live one's connection; NONE where there is none. */
  oppositeOf(slot: number): number {
    const { words } = this.#records;
    const r = this.#table.words[(slot << Flow.ENTRY_SHIFT) + Flow.CONNECTION] << C.RECORD_SHIFT;
    return words[r + C.FIRST] === slot ? words[r + C.SECOND] : words[r + C.FIRST];
  }

  /** Enters a connection that was just installed in the books (its load is there already), and in the list of those half-open. */
  begin(record: number): void {
    const r = record << C.RECORD_SHIFT;
    const { words } = this.#records;
    this.wait(record);
    const life = this.#sourceCounts.enter(r, words[r + C.LIFE]);
    words[r + C.LIFE] = life;
    const owner = words[r + C.OWNER];
    const generation = words[r + C.GENERATION];
    if (words[r + C.POOL] !== Flow.NONE) this.#ledger.addPorts(owner, generation, 1);
    if ((life & T.ONE_WAY) === 0) this.#ledger.add(owner, generation, DUE, 1);
    if (this.#endings.isOn) this.#endings.begin(record);
    if ((life & T.ANSWER_ONLY) === 0) return;
    this.#ledger.add(owner, generation, TOTAL, 1);
    this.#ledger.add(owner, generation, CURRENT, 1);
  }

  /**
   * Enters a connection of an lb4 that died in the books, as it stood in its own; POOL names its source port's. One half-open has to {@link wait}.
   * @param hop the next hop towards its server
   */
  resume(record: number, hop: number): void {
    const r = record << C.RECORD_SHIFT;
    const { words } = this.#records;
    const flows = this.#table.words;
    const owner = words[r + C.OWNER];
    const generation = words[r + C.GENERATION];
    const life = words[r + C.LIFE];
    const at = (words[r + C.FIRST] << Flow.ENTRY_SHIFT) + Flow.NEXT_HOP;
    // Written only where it changes, as everything here: of ten million connections each line is read from memory once, and seldom goes back.
    if (flows[at] !== hop) flows[at] = hop;
    this.#mend(r, life);
    // Which tables it has gone by, the one that died knew alone.
    const tagged =
      (flows[at - Flow.NEXT_HOP + Flow.STATE] & Flow.WRAPPED) !== 0 && flows[at - Flow.NEXT_HOP + Flow.DELTAS] >>> Flow.TAG_SHIFT > 0;
    if (tagged) flows[at - Flow.NEXT_HOP + Flow.DELTAS] |= Flow.MOST_TAG << Flow.TAG_SHIFT;
    this.#weigh(r, life, 1);
    const counted = this.#sourceCounts.enter(r, life);
    if (counted !== life) words[r + C.LIFE] = counted;
    if (words[r + C.POOL] !== Flow.NONE) this.#ledger.addPorts(owner, generation, 1);
    if (words[r + C.SECOND] === Flow.NONE) return;
    this.#lastHops.keep(flows[(words[r + C.SECOND] << Flow.ENTRY_SHIFT) + Flow.NEXT_HOP]);
    this.noteClient(r);
  }

  /** A connection goes to another server of its frontend from now on: `owner` is its OWNER word then. What it has carried stays with the one before. */
  move(record: number, owner: number): void {
    const r = record << C.RECORD_SHIFT;
    const { words } = this.#records;
    const life = words[r + C.LIFE];
    this.collect(r, false);
    this.#weigh(r, life, -1);
    words[r + C.OWNER] = owner;
    words[r + C.GENERATION] = this.#ledger.generation(owner);
    this.#weigh(r, life, 1);
  }

  /** Enters a connection that has not ended in the loads and counts of its owner, or takes it out of them. */
  #weigh(r: number, life: number, by: number): void {
    if ((life & T.STATE_MASK) >= T.TIME_WAIT) return;
    const { words } = this.#records;
    const owner = words[r + C.OWNER];
    const generation = words[r + C.GENERATION];
    if ((life & T.ADOPTED) === 0) this.#ledger.addLoad(owner, generation, by);
    if (life & T.COUNTED) this.#ledger.add(owner, generation, CURRENT, by);
  }

  /** Takes a connection of an lb4 that died, which does not go on, from the kernel, and enters what it has carried until then. */
  close(record: number): void {
    const r = record << C.RECORD_SHIFT;
    const { words } = this.#records;
    this.#setFast(r, 0);
    this.#mendCursors(r, words[r + C.LIFE]);
    this.collect(r, false);
    if (words[r + C.SECOND] !== Flow.NONE) this.collect(r, true);
  }

  /** Puts a connection behind all others of its list: those that have waited longest come first. */
  wait(record: number): void {
    const r = record << C.RECORD_SHIFT;
    this.#listsOf(r).add(record, this.#listOf(r));
  }

  /** The same of one that is in it. */
  renew(record: number): void {
    const r = record << C.RECORD_SHIFT;
    this.#listsOf(r).renew(record, this.#listOf(r));
  }

  /** What takes two stores, of which whoever was killed may have made one. */
  #mend(r: number, life: number): void {
    this.#setFast(r, life);
    this.#mendCursors(r, life);
  }

  #mendCursors(r: number, life: number): void {
    // One that is established has not begun anew; and the kernel may have carried any number of bytes of it meanwhile.
    if (T.isFast(life)) return;
    this.#mendCursor(r, C.FIRST, C.COLLECTED_FIRST);
    if (this.#records.words[r + C.SECOND] !== Flow.NONE) this.#mendCursor(r, C.SECOND, C.COLLECTED_SECOND);
  }

  /** Half of what the words can tell apart is not collected at once: the flow began anew, and its cursor has not. */
  #mendCursor(r: number, direction: number, cursor: number): void {
    const { words } = this.#records;
    const at = words[r + direction] << Flow.ENTRY_SHIFT;
    const bytes = bytesOf(this.#table.words, at);
    if (((bytes - words[r + cursor]) | 0) < 0) words[r + cursor] = bytes;
  }

  /**
   * Has the oldest make way where half-open connections, or flows of datagrams, have used up their share: of the list that a new one will be in, or of
   * all. So a flood costs those who flood.
   */
  makeRoom(list: number, isDatagram: boolean, now: number): void {
    const lists = this.#lists(isDatagram);
    if (lists.length(list) >= this.#shareOf(list, isDatagram)) this.evict(list, isDatagram, now);
    else if (lists.size >= this.#shareOf(Flow.NONE, isDatagram)) this.evict(lists.longest, isDatagram, now);
  }

  /** Removes the oldest of a list; of the oldest datagrams' flows rather one whose server has not answered. False where there is none. */
  evict(list: number, isDatagram: boolean, now: number): boolean {
    const oldest = this.#lists(isDatagram).oldest(list);
    if (oldest === Flow.NONE) return false;
    this.#evictRecord(isDatagram ? this.#unanswered(oldest) : oldest, isDatagram, now);
    return true;
  }

  #evictRecord(record: number, isDatagram: boolean, now: number): void {
    this.end(record, How.evicted, now);
    if (isDatagram) this.#evictedDatagrams++;
    else this.#evicted++;
  }

  #unanswered(oldest: number): number {
    const { words } = this.#records;
    let record = oldest;
    for (let looks = LOOKS; looks > 0 && record !== Flow.NONE; looks--) {
      if ((words[(record << C.RECORD_SHIFT) + C.LIFE] & T.SPOKEN) === 0) return record;
      record = this.#datagrams.next(record);
    }
    return oldest;
  }

  /** The same of the longest list of the kind that has more of them. */
  evictLongest(now: number): boolean {
    const isDatagram = this.#datagrams.size > this.#halfOpen.size;
    const lists = this.#lists(isDatagram);
    if (lists.size === 0) return false;
    // A flood keeps it true as it goes; to look at all lists at each SYN would be a cost out of proportion.
    if (lists.length(lists.longest) === 0) lists.measure();
    return this.evict(lists.longest, isDatagram, now);
  }

  /**
   * Under a frontend's or its servers' limit: removes one of the oldest of a list that is that frontend's and has waited for a second: a handshake takes less. Of
   * datagrams one that waits for its only answer, that long for the first, or has been quiet for longer than sessions are.
   * @param frontend NONE: its servers are full, and anybody's makes room there
   */
  evictStale(list: number, isDatagram: boolean, frontend: number, now: number): boolean {
    const lists = this.#lists(isDatagram);
    let record = lists.oldest(list);
    for (let looks = isDatagram ? LOOKS : HALF_OPEN_LOOKS; looks > 0 && record !== Flow.NONE; looks--) {
      const next = lists.next(record);
      const r = record << C.RECORD_SHIFT;
      if (this.#mayGo(r, frontend, now)) {
        // One that was reset is no load any more, and only in the way.
        const isLoad = (this.#records.words[r + C.LIFE] & T.STATE_MASK) < T.TIME_WAIT;
        this.#evictRecord(record, isDatagram, now);
        if (isLoad) return true;
      }
      record = next;
    }
    return false;
  }

  #mayGo(r: number, frontend: number, now: number): boolean {
    const { words } = this.#records;
    const life = words[r + C.LIFE];
    if (frontend !== Flow.NONE && words[r + C.OWNER] >>> 16 !== frontend) return false;
    if ((life & T.ANSWER_ONLY) !== 0) return true;
    const isSession = (life & T.DATAGRAM) !== 0 && (life & T.STATE_MASK) === T.ESTABLISHED;
    const least = isSession ? QUIET_MS : STALE_MS;
    if (idleOf(this.#table.words, words[r + C.FIRST] << Flow.ENTRY_SHIFT, now) < least) return false;
    return (
      !isSession || words[r + C.SECOND] === Flow.NONE || idleOf(this.#table.words, words[r + C.SECOND] << Flow.ENTRY_SHIFT, now) >= least
    );
  }

  /** Whether the connection of a flow could be moved by a segment without SYN, FIN and RST: then that must be intact. */
  isMovable(slot: number): boolean {
    const r = this.#table.words[(slot << Flow.ENTRY_SHIFT) + Flow.CONNECTION] << C.RECORD_SHIFT;
    const life = this.#records.words[r + C.LIFE];
    const state = life & T.STATE_MASK;
    return state <= T.ANSWERED || state === T.CLOSED || (life & (T.DATAGRAM | T.SPOKEN)) === T.DATAGRAM;
  }

  /** Whether half of the records are in use: what the hash finds again needs none. */
  get isCrowded(): boolean {
    return this.#records.size > this.#records.capacity / 2;
  }

  /** Takes the connection of a flow out of the table, both directions, and gives the port back: another one begins in its place. */
  remove(slot: number, now: number): void {
    this.end(this.#table.words[(slot << Flow.ENTRY_SHIFT) + Flow.CONNECTION], How.replaced, now);
  }

  /** Whether those that make way before the one with the record at word `r` are so many that they get less time. */
  isPressed(r: number): boolean {
    const list = this.#listOf(r);
    const { words } = this.#records;
    const isDatagram = (words[r + C.LIFE] & T.DATAGRAM) !== 0;
    const lists = this.#lists(isDatagram);
    return lists.size > this.#shareOf(Flow.NONE, isDatagram) / 2 || lists.length(list) > this.#shareOf(list, isDatagram) / 2;
  }

  /** How many a list may hold: a share of the ports, where it is that of a pool. NONE: all lists of its kind. */
  #shareOf(list: number, isDatagram: boolean): number {
    if (list === Flow.NONE || poolOf(list) === Flow.NONE) return isDatagram ? this.#datagramShare : this.#share;
    return this.#services.pools.portsEach * (isDatagram ? DATAGRAM_PORTS : SHARE);
  }

  #lists(isDatagram: boolean): HalfOpen {
    return isDatagram ? this.#datagrams : this.#halfOpen;
  }

  #listsOf(r: number): HalfOpen {
    return this.#lists((this.#records.words[r + C.LIFE] & T.DATAGRAM) !== 0);
  }

  #listOf(r: number): number {
    const { words } = this.#records;
    return listOf(words[r + C.POOL], words[r + C.OWNER] >>> 16);
  }

  /** Whether a connection has a place among those that may make way. */
  isListed(record: number): boolean {
    return T.isListed(this.#records.words[(record << C.RECORD_SHIFT) + C.LIFE]);
  }

  /** Whether the next datagram of a flow is to be chosen for anew: its server is lost (services.ts), or each of its frontend's is by now. */
  isLost(record: number): boolean {
    const r = record << C.RECORD_SHIFT;
    const { words } = this.#records;
    const life = words[r + C.LIFE];
    if ((life & T.DATAGRAM) === 0) return false;
    const owner = words[r + C.OWNER];
    return this.#services.isLost(owner & 0xffff) || ((life & T.ANSWER_ONLY) === 0 && this.#services.isPerPacket(owner >>> 16));
  }

  /**
   * Tells that a server has nobody at its port: it says so itself, from `source`, to whom the flow in `slot` brings its answers; and by the interface
   * that its packets leave by, for the address alone anybody can write. Where servers see their clients it is no more than a hint: on a link that both
   * share a client can write all of it.
   */
  noteUnreachable(slot: number, source: number, from: number, hops: Int32Array): void {
    const flows = this.#table.words;
    const at = slot << Flow.ENTRY_SHIFT;
    const record = flows[at + Flow.CONNECTION];
    const r = record << C.RECORD_SHIFT;
    const { words } = this.#records;
    const life = words[r + C.LIFE];
    const isAnswers = words[r + C.SECOND] === slot || (life & T.ANSWER_ONLY) !== 0;
    if (!isAnswers || (life & T.DATAGRAM) === 0 || flows[at + Flow.SOURCE] !== source || this.#isOrphan(r)) return;
    // Of a way for answers alone nobody knows the way there.
    const client = words[r + C.FIRST];
    if (client !== slot && hops[(flows[(client << Flow.ENTRY_SHIFT) + Flow.NEXT_HOP] << Hop.SHIFT) + Hop.INTERFACE] !== from) return;
    const isKnownToClient = (flows[at + Flow.STATE] & Flow.GUARDED) !== 0;
    this.#signals.note(words[r + C.OWNER] & 0xffff, isKnownToClient ? CLAIMED_UNREACHABLE : PORT_UNREACHABLE);
  }

  /** Whether the frontend or the server that a connection was opened for has left the set. */
  isOrphan(record: number): boolean {
    return this.#isOrphan(record << C.RECORD_SHIFT);
  }

  #isOrphan(r: number): boolean {
    const { words } = this.#records;
    return words[r + C.GENERATION] !== this.#ledger.generation(words[r + C.OWNER]);
  }

  /** A client's SYN, by which it waits anew: in turn behind all others. */
  #ask(record: number, life: number, now: number): void {
    const r = record << C.RECORD_SHIFT;
    const list = this.#listOf(r);
    if ((life & T.COUNTED) === 0) this.#halfOpen.renew(record, list);
    if ((life & T.STATE_MASK) < T.TIME_WAIT) return;
    // A new connection in an old one's place.
    if ((life & T.COUNTED) !== 0) {
      this.makeRoom(list, false, now);
      this.#halfOpen.add(record, list);
    }
    this.#beginAnew(r, C.FIRST, C.COLLECTED_FIRST);
    this.#beginAnew(r, C.SECOND, C.COLLECTED_SECOND);
    if (this.#endings.isOn) this.#endings.again(record, life, now);
  }

  #beginAnew(r: number, direction: number, cursor: number): void {
    const { words } = this.#records;
    const slot = words[r + direction];
    if (slot === Flow.NONE) return;
    this.collect(r, direction === C.SECOND);
    const at = slot << Flow.ENTRY_SHIFT;
    this.#table.renew(slot, this.#table.words[at + Flow.STATE] & (Flow.KEYED | Flow.LENT | Flow.GUARDED | Flow.WRAPPED));
    // The kernel's number is not ours to write: both together begin at 0.
    this.#table.words[at + Flow.BYTES] = -this.#table.words[at + Flow.KERNEL_BYTES];
    words[r + cursor] = 0;
  }

  #goesBy(slot: number, shown: number, after: number, { payload, now }: Segment): number {
    const flows = this.#table.words;
    const at = slot << Flow.ENTRY_SHIFT;
    const isBack = (shown & HEARD) !== 0 && T.isFast(after);
    const renews = (shown & RENEWS) !== 0 || isBack;
    if (renews && (shown & ACKNOWLEDGES) !== 0) return slot;
    // There is no acknowledgement in it that the entry could keep.
    if (renews || (shown & OPENS) !== 0) {
      flows[at + Flow.SEEN] = now;
      flows[at + Flow.BYTES] += payload;
    }
    return this.#table.copy(slot);
  }

  /** As a connection with that LIFE word has them. */
  #setFast(r: number, life: number): void {
    const { words } = this.#records;
    this.#table.setFast(words[r + C.FIRST], T.isFast(life));
    if (words[r + C.SECOND] !== Flow.NONE) this.#table.setFast(words[r + C.SECOND], T.isReplyFast(life));
  }

  /** Has all packets of a connection come the long way, until the next one of each side gives that back. */
  takeBack(record: number): void {
    this.#setFast(record << C.RECORD_SHIFT, 0);
  }

  /** Of a flow that is not FAST: whether it is one that was taken back, which it is no more then. */
  giveBack(slot: number): boolean {
    const { words } = this.#records;
    const r = this.#table.words[(slot << Flow.ENTRY_SHIFT) + Flow.CONNECTION] << C.RECORD_SHIFT;
    const isFirst = words[r + C.FIRST] === slot;
    if (!isFirst && words[r + C.SECOND] !== slot) return false;
    const life = words[r + C.LIFE];
    if (!(isFirst ? T.isFast(life) : T.isReplyFast(life))) return false;
    this.#table.setFast(slot, true);
    return true;
  }

  /** Takes one out of the table, which the kernel may have had. */
  end(record: number, how: How, now: number): void {
    const r = record << C.RECORD_SHIFT;
    const { words } = this.#records;
    this.#table.rest(words[r + C.FIRST], now);
    if (words[r + C.SECOND] !== Flow.NONE) this.#table.rest(words[r + C.SECOND], now);
    this.#removeRecord(record, how, now);
  }

  #removeRecord(record: number, how: How, now: number): void {
    const r = record << C.RECORD_SHIFT;
    const { words } = this.#records;
    const life = this.#sourceCounts.leave(r, words[r + C.LIFE]);
    this.collect(r, false);
    if (words[r + C.SECOND] !== Flow.NONE) this.collect(r, true);
    if (this.#endings.isOn) this.#endings.end(record, how, now);
    this.#table.remove(words[r + C.FIRST]);
    if (words[r + C.POOL] !== Flow.NONE) this.#releasePort(r);
    if (words[r + C.SECOND] !== Flow.NONE) this.#table.remove(words[r + C.SECOND]);
    this.#leave(r, life, (life & ~T.STATE_MASK) | T.CLOSED);
    if (T.isListed(life)) this.#listsOf(r).remove(record, this.#listOf(r));
    this.#records.release(record);
  }

  #releasePort(r: number): void {
    const { words } = this.#records;
    const flows = this.#table.words;
    const at = words[r + C.FIRST] << Flow.ENTRY_SHIFT;
    const isAnswers = (words[r + C.LIFE] & T.ANSWER_ONLY) !== 0;
    this.#services.pools.release(
      words[r + C.POOL],
      isAnswers ? destinationPort(flows[at + Flow.PORTS]) : sourcePort(flows[at + Flow.NEW_PORTS]),
    );
    this.#ledger.addPorts(words[r + C.OWNER], words[r + C.GENERATION], -1);
  }

  /**
   * Moves the bytes since the last time of a direction of the connection with the record at word `r` to its frontend's and its server's. Whether there
   * were any.
   */
  collect(r: number, isReply: boolean): boolean {
    const { words } = this.#records;
    const flows = this.#table.words;
    const at = words[r + (isReply ? C.SECOND : C.FIRST)] << Flow.ENTRY_SHIFT;
    const cursor = r + (isReply ? C.COLLECTED_SECOND : C.COLLECTED_FIRST);
    const before = words[cursor];
    const bytes = bytesOf(flows, at);
    if (bytes === before && flows[at + Flow.KERNEL_BYTES_HIGH] === 0) return false;
    const fresh = bytesSince(flows, at, before);
    // What the kernel adds from here on is in the next look.
    words[cursor] = (before + fresh) | 0;
    settleBytes(flows, at);
    const isReceived = isReply || (words[r + C.LIFE] & T.ANSWER_ONLY) !== 0;
    this.#ledger.addBytes(words[r + C.OWNER], words[r + C.GENERATION], isReceived ? RX : TX, fresh);
    if (this.#endings.isOn) this.#endings.carry(r >>> C.RECORD_SHIFT, isReceived, fresh);
    return true;
  }

  /**
   * Enters a change of state in the books: a connection counts when both sides have heard each other, and again when it has
   * ended; it is a load from its opening on. Returns `after`, marked.
   */
  #count(record: number, before: number, after: number): number {
    const r = record << C.RECORD_SHIFT;
    const { words } = this.#records;
    const owner = words[r + C.OWNER];
    const generation = words[r + C.GENERATION];
    const state = after & T.STATE_MASK;
    let marked = after;
    if (state >= T.ESTABLISHED && state <= T.TIME_WAIT && (after & T.COUNTED) === 0) {
      marked |= T.COUNTED;
      if ((after & T.DATAGRAM) === 0) this.#halfOpen.remove(record, this.#listOf(r));
      if ((after & (T.DATAGRAM | T.ADOPTED)) === 0) this.#completed++;
      this.#ledger.add(owner, generation, TOTAL, 1);
      this.#ledger.add(owner, generation, CURRENT, 1);
    }
    return this.#leave(r, before, marked);
  }

  /** Enters in the books that a connection has ended, or goes on after its end. Returns `after`, marked. */
  #leave(r: number, before: number, after: number): number {
    const { words } = this.#records;
    const owner = words[r + C.OWNER];
    const generation = words[r + C.GENERATION];
    const wasLive = (before & T.STATE_MASK) < T.TIME_WAIT;
    const isLive = (after & T.STATE_MASK) < T.TIME_WAIT;
    if (wasLive === isLive) return after;
    if ((after & T.ADOPTED) === 0) this.#ledger.addLoad(owner, generation, isLive ? 1 : -1);
    if (after & T.COUNTED) this.#ledger.add(owner, generation, CURRENT, isLive ? 1 : -1);
    else if (isLive && (after & T.ONE_WAY) === 0) this.#ledger.add(owner, generation, DUE, 1);
    return isLive ? this.#sourceCounts.enter(r, after) : this.#sourceCounts.leave(r, after);
  }

  /** Now and then: has a connection counted with its source's as the file says now. */
  recount(record: number): void {
    this.#sourceCounts.renew(record << C.RECORD_SHIFT);
  }

  /** Whether the connection of a flow is over: what opens it now is another one. */
  isOver(slot: number): boolean {
    const r = this.#table.words[(slot << Flow.ENTRY_SHIFT) + Flow.CONNECTION] << C.RECORD_SHIFT;
    return (this.#records.words[r + C.LIFE] & T.STATE_MASK) >= T.TIME_WAIT;
  }

  /** Tells of how a handshake goes: whether the server answers, and what does not go well. Returns the LIFE word, marked. */
  #tell(r: number, life: number, shown: number, segment: Segment): number {
    const state = life & T.STATE_MASK;
    if ((life & T.DATAGRAM) !== 0) {
      if (segment.isReply && (life & T.SPOKEN) === 0) this.#noteAnswer(r);
      return life;
    }
    if (state > T.ANSWERED) return life;
    const { words } = this.#records;
    const owner = words[r + C.OWNER];
    const generation = words[r + C.GENERATION];
    const { isReply } = segment;
    if (!this.#isOrphan(r)) {
      if (isReply && (shown & RESETS) !== 0) this.#signals.note(owner & 0xffff, HANDSHAKE_RESET);
      else if (!isReply && state === T.OPENING && (shown & OPENS) !== 0) this.#signals.note(owner & 0xffff, SYN_AGAIN);
    }
    if (state !== T.OPENING || (life & T.ADOPTED) !== 0) return life;
    // Only the client's half passes with direct server return: whatever it says after its SYN, it has heard from the server.
    const isAnswered = isReply || ((life & T.ONE_WAY) !== 0 && (shown & ~OPENS) !== 0);
    if (isAnswered) this.#noteAnswer(r);
    // There a SYN that comes again is the first sign that an answer is due.
    const isDue = (life & (T.ONE_WAY | T.REPEATED)) === T.ONE_WAY && (shown & OPENS) !== 0;
    if (!isDue) return life;
    this.#ledger.add(owner, generation, DUE, 1);
    return life | T.REPEATED;
  }

  #noteAnswer(r: number): void {
    const { words } = this.#records;
    this.#ledger.add(words[r + C.OWNER], words[r + C.GENERATION], ANSWERED, 1);
  }
}

/** Of the flow at word `at`. */
export function protocolOf(flows: Int32Array, at: number): Protocol {
  return byNumber[(flows[at + Flow.STATE] >>> Flow.PROTOCOL_SHIFT) & 0xff]!;
}
