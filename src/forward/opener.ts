/**
 * Opening connections: decide once (which server, which port, which rewrite) and write it down. Both directions are whole
 * before either is published.
 */
import { isFull, leastLoaded, type Scheduler } from '../balance/index.ts';
import { listOf } from '../flow/half-open.ts';
import * as T from '../flow/life.ts';
import type { PortPool } from '../flow/port-pool.ts';
import type { Records } from '../flow/records.ts';
import type { FlowTable } from '../flow/table.ts';
import * as C from '../layout/connection.ts';
import { DUE, TOTAL, TX } from '../layout/counters.ts';
import * as Flow from '../layout/flow.ts';
import { destinationPort, portsWord, sourcePort, swapPorts } from '../packet/address.ts';
import { delta, fold } from '../packet/checksum.ts';
import type { Bonds } from './affinity.ts';
import type { Clash } from './clash.ts';
import type { Connections } from './connections.ts';
import type { Ledger } from './ledger.ts';
import type { Mode, Opening, Rewrite } from './mode.ts';
import { shownAs } from './prefix-map.ts';
import type { Rows } from './rows.ts';
import { type Frontend, type Services, wayOf } from './services.ts';
import { Verdict } from './verdict.ts';

export interface OpenerParts {
  readonly table: FlowTable;
  readonly records: Records;
  readonly services: Services;
  readonly ledger: Ledger;
  readonly connections: Connections;
  readonly clash: Clash;
  readonly bonds: Bonds;
  readonly rows: Rows;
}

/**
 * Servers tried in all, where the ports of the one chosen are out, and lists of half-open connections asked for one that makes way, of which
 * there is one a server and source: a SYN is to cost no more than that.
 */
const TRIES = 16;
/** Each SYN begins to ask by the golden section further on: so none is left out, however many lists there are and servers take turns. */
const TURN = 2 ** 30;
const STEP = 663_608_941;

/** Opens the connections of one core; where there is no room it has others make it ({@link Connections}). */
export class Opener {
  readonly #table: FlowTable;
  readonly #records: Records;
  readonly #services: Services;
  readonly #ledger: Ledger;
  readonly #connections: Connections;
  readonly #clash: Clash;
  readonly #bonds: Bonds;
  readonly #rows: Rows;
  readonly #rewrite: Rewrite = { source: 0, destination: 0, ports: 0 };
  readonly #opening: Opening = { source: 0, destination: 0, ports: 0, serverAddress: 0, serverPort: 0, address: 0, port: 0 };
  /** A SYN has one connection make way under limits, however often it must choose. */
  #mayEvict = true;
  /** What the scheduler chose last, and what it saw there (-1: it does not go by loads). */
  #picked = 0;
  #seen = -1;
  /** The OWNER word of what is being opened, and the slot of the client's flow once that is there. */
  #owner = 0;
  #slot = Flow.NONE;
  /** What the protocol is told of the client's first packet (flow/protocol.ts: firstOf). */
  #first = 0;
  /** Where servers see their clients: this one may have another port (clash.ts). */
  #mayMove = true;
  /** Where among the lists a SYN begins to ask, in parts of TURN, and how many it may still ask on behalf of a port. */
  #turn = 0;
  #asks = 0;

  constructor({ table, records, services, ledger, connections, clash, bonds, rows }: OpenerParts) {
    this.#table = table;
    this.#records = records;
    this.#services = services;
    this.#ledger = ledger;
    this.#connections = connections;
    this.#clash = clash;
    this.#bonds = bonds;
    this.#rows = rows;
  }

  /**
   * Chooses a server for a SYN and installs both directions. Returns the slot of the client's, or the table's scratch slot
   * where the packet goes without a flow (then {@link carry} counts it, if the frontend is one of perPacket), or the complement (~) of the verdict that says why not: each is answered by a reset.
   * @param first what the frontend's protocol says of it (firstOf)
   * @param clientHop next hop back to the client
   */
  open(frontend: Frontend, source: number, destination: number, ports: number, first: number, clientHop: number, now: number): number {
    const { scheduler, adopts } = frontend;
    if (scheduler === undefined) return ~Verdict.resetNoServer;
    this.#turn = (this.#turn + STEP) % TURN;
    this.#asks = TRIES;
    this.#mayEvict = true;
    // No other server has it come here, nor where it stays with the one that it knows.
    this.#mayMove = frontend.hashes || !this.#clash.isHere(shownAs(source, frontend.prefix), sourcePort(ports), frontend.protocol.number);
    this.#describe(source, destination, ports, first);
    const life = adopts ? T.OPENING | T.HASHED : T.OPENING;
    let position = -1;
    let slot = ~Verdict.resetFull;
    // More than once only where another worker took the place between the choice and the entry.
    for (let tries = TRIES; slot === ~Verdict.resetFull && tries > 0; tries--) {
      position = this.#choose(frontend, scheduler, now);
      if (position < 0) return slot;
      // Where others are that quick, its load is one of the least all the same.
      if (tries === 1) this.#seen = -1;
      slot = this.#installAnywhere(frontend, position, clientHop, life, now);
      if (slot !== ~Verdict.resetClash || this.#mayMove) continue;
      this.#mayMove = true;
      slot = this.#installAnywhere(frontend, position, clientHop, life, now);
    }
    // The next segment will go where the hash says: so may this one, if that is the same place.
    const isHashed = adopts && position === this.#picked;
    return slot === ~Verdict.resetTableFull && isHashed ? this.#withoutFlow(frontend, position) : slot;
  }

  /**
   * The same for a segment in mid-stream, where `frontend.adopts`: opened by another balancer, or by this one in an earlier
   * life. The hash alone knows where it belongs, whatever limits say; and since nobody has seen it opened, what may be forged uses up none.
   * @param first what the frontend's protocol says of it (firstOf)
   */
  adopt(frontend: Frontend, source: number, destination: number, ports: number, first: number, now: number): number {
    if (frontend.scheduler === undefined) return ~Verdict.resetNoServer;
    const position = frontend.scheduler.pick(source, sourcePort(ports), destination, destinationPort(ports));
    this.#describe(source, destination, ports, first);
    if (this.#connections.isCrowded) return this.#withoutFlow(frontend, position);
    const slot = this.#installEntered(frontend, position, Flow.NONE, T.OPENING | T.ADOPTED | T.HASHED, now);
    return slot === ~Verdict.resetTableFull ? this.#withoutFlow(frontend, position) : slot;
  }

  /**
   * Where `frontend.adopts`: the scratch slot, with the rewrite towards the server that the hash names for a client. NONE while no
   * server is up.
   */
  pass(frontend: Frontend, source: number, destination: number, ports: number): number {
    if (frontend.scheduler === undefined) return Flow.NONE;
    this.#describe(source, destination, ports, 0);
    return this.#withoutFlow(frontend, frontend.scheduler.pick(source, sourcePort(ports), destination, destinationPort(ports)));
  }

  /** The position of the server for what was described, -1: it or the frontend is full, and nothing makes way. */
  #choose(frontend: Frontend, scheduler: Scheduler, now: number): number {
    const { candidates } = frontend;
    const { loads } = this.#ledger;
    if (this.#services.isFrontendFull(frontend) && !this.#evictStale(frontend, frontend.index, now)) return -1;
    const kept = frontend.bond === undefined ? -1 : this.#bonds.find(frontend.bond, this.#opening.source, now);
    const isKept = kept >= 0 && !isFull(candidates[kept], loads);
    const { source, destination, ports } = this.#opening;
    const picked = isKept ? kept : scheduler.pick(source, sourcePort(ports), destination, destinationPort(ports));
    if (isKept) this.#mayMove = true;
    this.#picked = picked;
    this.#seen = isKept ? -1 : (scheduler.seen ?? -1);
    if (!isFull(candidates[picked], loads)) return picked;
    this.#seen = -1;
    const position = leastLoaded(candidates, loads, picked);
    return position < 0 && this.#evictStale(frontend, Flow.NONE, now) ? leastLoaded(candidates, loads, -1) : position;
  }

  /**
   * Under a limit, what was never completed makes way: strangers' SYNs are not to lock out others.
   * @param whose as {@link Connections.evictStale} has it
   */
  #evictStale({ index, pools, protocol }: Frontend, whose: number, now: number): boolean {
    if (!this.#mayEvict) return false;
    const lists = Math.max(1, pools.length);
    const begin = this.#beginning(lists);
    for (let i = 0; i < Math.min(TRIES, lists); i++) {
      const pool = pools[(begin + i) % lists] ?? Flow.NONE;
      if (!this.#connections.evictStale(listOf(pool, index), protocol.isDatagram, whose, now)) continue;
      this.#mayEvict = false;
      return true;
    }
    return false;
  }

  /** With the server at `position`, or the next one that takes it where that has no port left. */
  #installAnywhere(frontend: Frontend, position: number, clientHop: number, life: number, now: number): number {
    const { candidates } = frontend;
    const { loads } = this.#ledger;
    const slot = this.#install(frontend, position, this.#seen, clientHop, life, now);
    if (!isElsewhere(slot)) return slot;
    const tries = Math.min(TRIES, candidates.length);
    for (let i = 1; i < tries; i++) {
      const next = (position + i) % candidates.length;
      if (isFull(candidates[next], loads)) continue;
      const other = this.#install(frontend, next, -1, clientHop, life, now);
      if (!isElsewhere(other)) return other;
    }
    return slot;
  }

  /** Enters a connection to the server at `position`, whose load is to be `seen` (-1: whatever it is), and installs it. Returns as {@link open} does. */
  #install(frontend: Frontend, position: number, seen: number, clientHop: number, life: number, now: number): number {
    const owner = (frontend.index << 16) | frontend.servers[position].index;
    if (!this.#ledger.tryEnter(owner, frontend.maxconn, frontend.candidates[position].maxconn, seen)) return ~Verdict.resetFull;
    const slot = this.#installEntered(frontend, position, clientHop, life, now);
    if (slot < 0) this.#ledger.leave(owner);
    return slot;
  }

  /** Decides the rewrite towards the server at `position` and installs it. Returns as {@link open} does. */
  #installEntered(frontend: Frontend, position: number, clientHop: number, life: number, now: number): number {
    const { isDatagram } = frontend.protocol;
    this.#owner = (frontend.index << 16) | frontend.servers[position].index;
    if (frontend.perPacket && (frontend.mode.directions === 1 || this.#isAwaited(frontend, position, now)))
      return this.#passOnce(frontend, position);
    const way = frontend.pools.length > 0 ? this.#claimPort(frontend, position, now) : this.#seenAs(frontend, position, now);
    if (way === Flow.NONE) return frontend.pools.length === 0 ? ~Verdict.resetClash : ~Verdict.resetNoPort;
    const pool = frontend.pools[way] ?? Flow.NONE;
    const list = listOf(pool, frontend.index);
    // Only for a connection that has its port: a SYN costs one handshake for that and one for the room, no more.
    this.#connections.makeRoom(list, isDatagram, now);
    if (this.#records.isFull && !this.#connections.evictLongest(now)) {
      if (pool !== Flow.NONE) this.#services.pools.release(pool, this.#opening.port);
      return ~Verdict.resetTableFull;
    }
    this.#decide(frontend, position);
    const isDone = frontend.perPacket
      ? this.#writeAnswer(frontend, pool, clientHop, now)
      : this.#writeBoth(frontend, pool, frontend.hops[way], clientHop, life, now);
    if (!isDone) {
      if (pool !== Flow.NONE) this.#services.pools.release(pool, this.#opening.port);
      return ~Verdict.resetTableFull;
    }
    return frontend.perPacket ? this.#borrow(frontend, frontend.hops[way]) : this.#slot;
  }

  /** Both directions, as decided: false where there is no room for one of them. The client's is in #slot. */
  #writeBoth(frontend: Frontend, pool: number, hop: number, clientHop: number, life: number, now: number): boolean {
    const { mode, protocol, bond } = frontend;
    const { directions } = mode;
    const isWrapped = mode.tunnel !== undefined;
    const { source, destination, ports: clientPorts } = this.#opening;
    const { source: s, destination: d, ports: p } = this.#rewrite;
    const slot = this.#table.reserve(source, destination, clientPorts, now);
    const twin = directions === 2 ? this.#table.reserve(d, s, swapPorts(p), now, slot) : Flow.NONE;
    if (slot === Flow.NONE || (directions === 2 && twin === Flow.NONE)) return false;
    const record = this.#records.claim();
    const marks = (directions === 1 ? T.ONE_WAY : 0) | (protocol.isDatagram ? T.DATAGRAM : 0);
    this.#writeRecord(record, slot, twin, life | marks, pool);
    this.#writeFlow(slot, s, d, p, hop, record, now);
    if (isWrapped) this.#rows.write(slot << Flow.ENTRY_SHIFT, frontend);
    if (directions === 2) this.#writeFlow(twin, destination, source, swapPorts(clientPorts), clientHop, record, now);
    protocol.begin(this.#table.words, slot << Flow.ENTRY_SHIFT, directions === 2 ? twin << Flow.ENTRY_SHIFT : -1, this.#first);
    const kind = Flow.live(protocol.number);
    if (directions === 2) this.#table.publish(twin, kind | guardOf(mode));
    this.#table.publish(slot, isWrapped ? kind | Flow.WRAPPED : kind);
    this.#connections.begin(record);
    if (bond !== undefined) this.#bonds.open(bond, source, this.#owner & 0xffff, now);
    this.#slot = slot;
    return true;
  }

  /** The way of one answer, as decided: false where there is no room for it. */
  #writeAnswer({ mode, protocol }: Frontend, pool: number, clientHop: number, now: number): boolean {
    const { source, destination, ports } = this.#opening;
    const { source: s, destination: d, ports: p } = this.#rewrite;
    const slot = this.#table.reserve(d, s, swapPorts(p), now);
    if (slot === Flow.NONE) return false;
    const record = this.#records.claim();
    this.#writeRecord(record, slot, Flow.NONE, T.OPENING | T.COUNTED | T.DATAGRAM | T.ANSWER_ONLY, pool);
    this.#writeFlow(slot, destination, source, swapPorts(ports), clientHop, record, now);
    this.#table.publish(slot, Flow.live(protocol.number) | guardOf(mode));
    this.#connections.begin(record);
    return true;
  }

  /** Where the server sees its client: whether an answer to the same port of it is awaited already, by the same service. Then one more is. */
  #isAwaited(frontend: Frontend, position: number, now: number): boolean {
    if (frontend.mode.source !== 'client') return false;
    const opening = this.#opening;
    this.#aim(frontend, position);
    opening.address = shownAs(opening.source, frontend.prefix);
    opening.port = sourcePort(opening.ports);
    const ports = portsWord(opening.serverPort, opening.port);
    const slot = this.#table.find(opening.serverAddress, opening.address, ports, Flow.live(frontend.protocol.number));
    if (slot === Flow.NONE) return false;
    const { words } = this.#table;
    const at = slot << Flow.ENTRY_SHIFT;
    const r = words[at + Flow.CONNECTION] << C.RECORD_SHIFT;
    const isSame = (this.#records.words[r + C.LIFE] & T.ANSWER_ONLY) !== 0 && this.#records.words[r + C.OWNER] === this.#owner;
    if (!isSame || words[at + Flow.NEW_SOURCE] !== opening.destination) return false;
    words[at + Flow.ORIGIN]++;
    words[at + Flow.SEEN] = now;
    return true;
  }

  /** Counts a datagram that goes without a flow of its own, and will not be heard of again, or by the way of an answer that is there. */
  #passOnce(frontend: Frontend, position: number): number {
    const generation = this.#ledger.generation(this.#owner);
    this.#ledger.add(this.#owner, generation, TOTAL, 1);
    // With direct server return no answer passes here.
    if (frontend.mode.directions === 2) this.#ledger.add(this.#owner, generation, DUE, 1);
    this.#ledger.leave(this.#owner);
    return this.#withoutFlow(frontend, position);
  }

  /** Enters the bytes of the datagram that {@link open} has just sent on without a flow of its own. */
  carry(payload: number): void {
    this.#ledger.addBytes(this.#owner, this.#ledger.generation(this.#owner), TX, payload);
  }

  /**
   * Takes a port towards the server at `position`, where the mode asks for one: at the source that has most of them left, or if none is
   * left that of the oldest half-open connection of a source. Returns the way (services.ts: wayOf), NONE where there is no port.
   */
  #claimPort({ index, sources, pools, protocol }: Frontend, position: number, now: number): number {
    const first = wayOf({ sources }, position);
    let way = this.#roomiest(pools, first, sources.length);
    let port = this.#poolAt(pools[way]).claim();
    const begin = this.#beginning(sources.length);
    for (let i = 0; port === 0 && i < sources.length && this.#asks > 0; i++) {
      this.#asks--;
      way = first + ((begin + i) % sources.length);
      if (this.#connections.evict(listOf(pools[way], index), protocol.isDatagram, now)) port = this.#poolAt(pools[way]).claim();
    }
    this.#opening.address = sources[way - first];
    this.#opening.port = port;
    return port === 0 ? Flow.NONE : way;
  }

  /** The same where the server sees its client: as whom. NONE where its replies could not be told from another connection's. */
  #seenAs(frontend: Frontend, position: number, now: number): number {
    const way = wayOf(frontend, position);
    if (frontend.mode.directions === 1) return way;
    const opening = this.#opening;
    this.#aim(frontend, position);
    opening.address = shownAs(opening.source, frontend.prefix);
    opening.port = this.#clash.portFor(opening, sourcePort(opening.ports), frontend.protocol.number, this.#mayMove, now);
    return opening.port < 0 ? Flow.NONE : way;
  }

  /** The place among `count` where this SYN begins to ask. */
  #beginning(count: number): number {
    return Math.floor((this.#turn * count) / TURN);
  }

  #roomiest(pools: readonly number[], first: number, count: number): number {
    let best = first;
    for (let way = first + 1; way < first + count; way++)
      if (this.#poolAt(pools[way]).available > this.#poolAt(pools[best]).available) best = way;
    return best;
  }

  #poolAt(index: number): PortPool {
    return this.#services.pools.at(index)!; // a frontend's pools are there while it is
  }

  /** No room for a flow: one packet goes by the scratch entry. */
  #withoutFlow(frontend: Frontend, position: number): number {
    this.#decide(frontend, position);
    return this.#borrow(frontend, frontend.hops[wayOf(frontend, position)]);
  }

  /** The scratch slot, with the rewrite that was decided. */
  #borrow(frontend: Frontend, hop: number): number {
    const { source, destination, ports } = this.#opening;
    const isWrapped = frontend.mode.tunnel !== undefined;
    const slot = this.#table.borrow(source, destination, ports, isWrapped ? Flow.WRAPPED : 0);
    this.#writeRewrite(slot, this.#rewrite.source, this.#rewrite.destination, this.#rewrite.ports, hop);
    if (isWrapped) this.#rows.write(slot << Flow.ENTRY_SHIFT, frontend);
    return slot;
  }

  #describe(source: number, destination: number, ports: number, first: number): void {
    this.#opening.source = source;
    this.#opening.destination = destination;
    this.#opening.ports = ports;
    this.#first = first;
  }

  #aim({ servers }: Frontend, position: number): void {
    const { address, port } = servers[position];
    this.#opening.serverAddress = address;
    this.#opening.serverPort = port;
  }

  /** Has the mode fill in the rewrite of what was described, towards the server at `position`. */
  #decide(frontend: Frontend, position: number): void {
    this.#aim(frontend, position);
    frontend.mode.rewrite(this.#opening, this.#rewrite);
  }

  #writeRecord(record: number, first: number, second: number, life: number, pool: number): void {
    const { words } = this.#records;
    const owner = this.#owner;
    const r = record << C.RECORD_SHIFT;
    words[r + C.FIRST] = first;
    words[r + C.SECOND] = second;
    words[r + C.OWNER] = owner;
    words[r + C.GENERATION] = this.#ledger.generation(owner);
    words[r + C.POOL] = pool;
    words[r + C.COLLECTED_FIRST] = 0;
    words[r + C.COLLECTED_SECOND] = 0;
    words[r + C.LIFE] = life;
  }

  /** Writes a reserved entry: its packets leave as (`s`, `d`, `p`) by `hop`. */
  #writeFlow(slot: number, s: number, d: number, p: number, hop: number, record: number, now: number): void {
    const { words } = this.#table;
    const at = slot << Flow.ENTRY_SHIFT;
    this.#writeRewrite(slot, s, d, p, hop);
    words[at + Flow.CONNECTION] = record;
    words[at + Flow.SEEN] = now;
    words[at + Flow.BYTES] = 0;
    words[at + Flow.KERNEL_BYTES] = 0;
    words[at + Flow.KERNEL_BYTES_HIGH] = 0;
    words[at + Flow.ACKNOWLEDGED] = 0;
    words[at + Flow.ORIGIN] = 0;
  }

  #writeRewrite(slot: number, s: number, d: number, p: number, hop: number): void {
    const { words } = this.#table;
    const at = slot << Flow.ENTRY_SHIFT;
    const addresses = fold(delta(words[at + Flow.SOURCE], s) + delta(words[at + Flow.DESTINATION], d));
    words[at + Flow.NEW_SOURCE] = s;
    words[at + Flow.NEW_DESTINATION] = d;
    words[at + Flow.NEW_PORTS] = p;
    words[at + Flow.DELTAS] = fold(addresses + delta(words[at + Flow.PORTS], p)) | (addresses << 16);
    words[at + Flow.NEXT_HOP] = hop;
  }
}

/** What the STATE of answers has beside their kind. */
function guardOf({ repliesTo }: Mode): number {
  return repliesTo === 'client' ? Flow.GUARDED : 0;
}

/** Whether another server may have what this one lacks: a port, or an answer of its own. */
function isElsewhere(slot: number): boolean {
  return slot === ~Verdict.resetNoPort || slot === ~Verdict.resetClash;
}
