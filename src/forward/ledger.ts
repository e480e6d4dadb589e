/**
 * A worker's books in shared memory, by the index of frontend and server. An index whose address, port or protocol changes, or that goes and
 * comes back, stands for something else: it begins at 0 in a new generation, and flows of an earlier one, which the sweep
 * removes, are not entered any more. What an index that went has counted stays until somebody else has it:
 * totals are read from there (service/roster.ts).
 *
 * Loads are held against limits, so all workers have the same ones: they are changed atomically, and each knows what is its own in them.
 */

import { reserve } from '../balance/index.ts';
import {
  CURRENT,
  frontendLoad,
  frontendRow,
  LOADS_LENGTH,
  MAX_FRONTENDS,
  MAX_SERVERS,
  PLACE,
  PLACE_ADDRESS,
  PLACE_GENERATION,
  PLACE_PORT,
  PORTS,
  REFUSALS,
  ROW,
  refusalRow,
  serverRow,
  TOTAL,
} from '../layout/counters.ts';
import type { Counters } from '../layout/memory.ts';
import { type Endpoint, portKey } from './endpoints.ts';
import type { ServiceSet } from './service-set.ts';

/** The books of one core. */
export class Ledger {
  /** Connections that each server and frontend has, from opening to their end, with all workers: layout/counters.ts says where. */
  readonly loads: Int32Array;
  /** This core's part of them. */
  readonly #own = new Int32Array(LOADS_LENGTH);
  readonly #statistics: Float64Array;
  readonly #refusals: Float64Array;
  /** What each index stands for, for who comes after this process, too. */
  readonly #places: Int32Array;

  constructor({ statistics, refusals, loads, places }: Pick<Counters, 'statistics' | 'refusals' | 'loads' | 'places'>) {
    this.#statistics = statistics;
    this.#refusals = refusals;
    this.loads = loads;
    this.#places = places;
  }

  /** Closes the books of what is not in `set` any more, and begins anew whatever stands for something else in it. */
  apply({ frontends, backends }: ServiceSet): void {
    const wanted = new Int32Array(LOADS_LENGTH * 2);
    const note = (element: number, { address, port, protocol }: Endpoint): void => {
      wanted[element * 2] = address;
      wanted[element * 2 + 1] = portKey(port, protocol);
    };
    for (const frontend of frontends) note(frontendLoad(frontend.index), frontend);
    for (const { servers } of backends) for (const server of servers) note(server.index, server);
    const places = this.#places;
    for (let element = 0, at = 0; element < LOADS_LENGTH; element++, at += PLACE) {
      const [address, port] = [wanted[element * 2], wanted[element * 2 + 1]];
      if (places[at + PLACE_ADDRESS] === address && places[at + PLACE_PORT] === port) continue;
      // The generation first: a process that dies in between has given up connections too many, never one to somebody else.
      this.#close(element);
      // Before the place is stored: nobody looks at the row again that stands for who it should.
      if (port !== 0) this.#clear(element);
      places[at + PLACE_ADDRESS] = address;
      places[at + PLACE_PORT] = port;
    }
  }

  /** The GENERATION word of a flow of `owner` (layout/flow.ts: OWNER) that is opened now. */
  generation(owner: number): number {
    return (this.#generation(frontendLoad(owner >>> 16)) << 16) | this.#generation(owner & 0xffff);
  }

  /** Adds to a column of the frontend's row and of the server's. */
  add(owner: number, generation: number, column: number, amount: number): void {
    const statistics = this.#statistics;
    if (this.#isFrontend(owner, generation)) statistics[frontendRow(owner >>> 16) + column] += amount;
    if (this.#isServer(owner, generation)) statistics[serverRow(owner & 0xffff) + column] += amount;
  }

  /** Adds bytes likewise, also those of flows that their frontend or server has left behind: they were carried all the same. */
  addBytes(owner: number, generation: number, column: number, bytes: number): void {
    const statistics = this.#statistics;
    if (this.#takesBytes(frontendLoad(owner >>> 16), generation >>> 16)) statistics[frontendRow(owner >>> 16) + column] += bytes;
    if (this.#takesBytes(owner & 0xffff, generation & 0xffff)) statistics[serverRow(owner & 0xffff) + column] += bytes;
  }

  /** Adds to the loads of a connection's frontend and server, whatever limits say. */
  addLoad(owner: number, generation: number, change: number): void {
    if (this.#isFrontend(owner, generation)) this.#change(frontendLoad(owner >>> 16), change);
    if (this.#isServer(owner, generation)) this.#change(owner & 0xffff, change);
  }

  /**
   * Adds a connection to both loads, unless another worker has just taken the last place: limits hold exactly, however many choose at a
   * time.
   * @param mostOfFrontend its limit, 0: none; likewise for the server
   * @param seen the server's load when it was chosen for that, -1 where it was not: another's choice in between makes it void
   */
  tryEnter(owner: number, mostOfFrontend: number, mostOfServer: number, seen: number): boolean {
    const frontend = frontendLoad(owner >>> 16);
    if (!this.#tryRaise(frontend, mostOfFrontend, -1)) return false;
    if (this.#tryRaise(owner & 0xffff, mostOfServer, seen)) return true;
    this.#change(frontend, -1);
    return false;
  }

  /** Takes back what {@link tryEnter} has added. */
  leave(owner: number): void {
    this.#change(frontendLoad(owner >>> 16), -1);
    this.#change(owner & 0xffff, -1);
  }

  addPorts(owner: number, generation: number, change: number): void {
    if (this.#isServer(owner, generation)) this.#statistics[serverRow(owner & 0xffff) + PORTS] += change;
  }

  /** Handshakes of a frontend, by its index, that were completed here. */
  completed(frontend: number): number {
    return this.#statistics[frontendRow(frontend) + TOTAL];
  }

  /** Connections of a frontend that are open here, and nobody has completed yet; adopted ones may hide some. */
  halfOpen(frontend: number): number {
    return Math.max(0, this.#own[frontendLoad(frontend)] - this.#statistics[frontendRow(frontend) + CURRENT]);
  }

  /** The frontend, by its index, that has most of those. */
  mostHalfOpen(): number {
    let most = 0;
    for (let frontend = 1; frontend < MAX_FRONTENDS; frontend++) if (this.halfOpen(frontend) > this.halfOpen(most)) most = frontend;
    return most;
  }

  /** Nothing is open: before the connections of who died are entered anew. What was carried stays written. */
  reopen(): void {
    for (let element = 0; element < LOADS_LENGTH; element++) this.#empty(element);
  }

  #tryRaise(element: number, most: number, seen: number): boolean {
    if (!reserve(this.loads, element, most, seen)) return false;
    this.#own[element]++;
    return true;
  }

  #change(element: number, change: number): void {
    this.#own[element] += change;
    Atomics.add(this.loads, element, change);
  }

  #generation(element: number): number {
    return this.#places[element * PLACE + PLACE_GENERATION];
  }

  #isFrontend(owner: number, generation: number): boolean {
    return this.#generation(frontendLoad(owner >>> 16)) === generation >>> 16;
  }

  #isServer(owner: number, generation: number): boolean {
    return this.#generation(owner & 0xffff) === (generation & 0xffff);
  }

  #takesBytes(element: number, generation: number): boolean {
    const now = this.#generation(element);
    return now === generation || (this.#isVacant(element) && now === ((generation + 1) & 0xffff));
  }

  /** Whether an index stands for nothing. */
  #isVacant(element: number): boolean {
    return this.#places[element * PLACE + PLACE_PORT] === 0;
  }

  /** Nothing is open any more under this index, and what was carried stays written. */
  #close(element: number): void {
    this.#places[element * PLACE + PLACE_GENERATION] = (this.#generation(element) + 1) & 0xffff;
    this.#empty(element);
  }

  #clear(element: number): void {
    this.#statistics.fill(0, rowOf(element), rowOf(element) + ROW);
    const refusals = refusalRow(element - MAX_SERVERS);
    if (refusals >= 0) this.#refusals.fill(0, refusals, refusals + REFUSALS);
  }

  #empty(element: number): void {
    this.#change(element, -this.#own[element]);
    this.#statistics[rowOf(element) + CURRENT] = 0;
    this.#statistics[rowOf(element) + PORTS] = 0;
  }
}

function rowOf(element: number): number {
  return element < MAX_SERVERS ? serverRow(element) : frontendRow(element - MAX_SERVERS);
}
