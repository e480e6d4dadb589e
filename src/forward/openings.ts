/**
 * Opening connections: decide once (which server, which port, which rewrite) and write it down. Both directions are whole
 * before either is published.
 */
import { isFull, leastLoaded } from '../balance/index.ts';
import type { FlowTable } from '../flow/table.ts';
import * as T from '../flow/tcp.ts';
import { DUE } from '../layout/counters.ts';
import * as E from '../layout/flow.ts';
import { sourcePort, swapPorts } from '../packet/address.ts';
import { delta, fold } from '../packet/checksum.ts';
import type { Ledger } from './ledger.ts';
import type { Opening, Rewrite } from './mode.ts';
import type { Frontend, Services } from './services.ts';
import { Verdict } from './verdict.ts';

export interface OpeningsParts {
  readonly table: FlowTable;
  readonly services: Services;
  readonly ledger: Ledger;
  /** Live entries beyond which new connections are refused: the table stays at most half full. */
  readonly maximum: number;
}

export class Openings {
  private readonly table: FlowTable;
  private readonly services: Services;
  private readonly ledger: Ledger;
  private readonly maximum: number;
  private readonly rewrite: Rewrite = { source: 0, destination: 0, ports: 0 };
  private readonly opening: Opening = { source: 0, destination: 0, ports: 0, serverAddress: 0, serverPort: 0, pool: undefined };

  constructor({ table, services, ledger, maximum }: OpeningsParts) {
    this.table = table;
    this.services = services;
    this.ledger = ledger;
    this.maximum = maximum;
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

  /**
   * Where `frontend.adopts`: the scratch slot, with the rewrite towards the server that the hash names for a client. NONE while no
   * server is up.
   */
  pass(frontend: Frontend, source: number, destination: number, ports: number): number {
    if (frontend.scheduler === undefined) return E.NONE;
    this.describe(source, destination, ports);
    return this.withoutFlow(frontend, frontend.scheduler.pick(source, sourcePort(ports)));
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
    this.writeRewrite(slot, s, d, p, frontend.hops[position]!);
    this.writeLife(slot, twin, directions === 1 ? state | T.ONE_WAY : state, E.NONE, owner, generation, now);
    if (directions === 2) table.publish(twin);
    table.publish(slot);
    this.ledger.addLoad(owner, generation, 1);
    if (directions === 2) this.ledger.add(owner, generation, DUE, 1);
    return slot;
  }

  /** No room for a flow: one packet goes by the scratch entry. */
  private withoutFlow(frontend: Frontend, position: number): number {
    const { opening, rewrite, table } = this;
    this.decide(frontend, position);
    const slot = table.borrow(opening.source, opening.destination, opening.ports);
    this.writeRewrite(slot, rewrite.source, rewrite.destination, rewrite.ports, frontend.hops[position]!);
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

  /** Writes the rest of a reserved entry. */
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
  }
}
