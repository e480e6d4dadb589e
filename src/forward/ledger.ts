/**
 * The books in shared memory, by the index of frontend and server. An index whose address, port or protocol changes, or that goes and
 * comes back, stands for something else: it begins at 0 in a new generation, and flows of an earlier one, which the sweep
 * removes within a second, are not entered any more. What an index that went has counted stays until somebody else has it:
 * totals are read from there (service/roster.ts).
 */

import { CURRENT, frontendLoad, frontendRow, LOADS_LENGTH, MAX_SERVERS, PORTS, ROW, serverRow } from '../layout/counters.ts';
import { type Endpoint, portKey } from './endpoints.ts';
import type { ServiceSet } from './service-set.ts';

export class Ledger {
  /** Connections that each server and frontend has, from opening to their end: layout/counters.ts says where. */
  readonly loads: Int32Array;
  readonly #statistics: Float64Array;
  readonly #generations = new Uint16Array(LOADS_LENGTH);
  /** What each index stands for: address, and port and protocol in one; 0 for nothing. */
  #places = new Int32Array(LOADS_LENGTH * 2);

  constructor(statistics: Float64Array, loads: Int32Array) {
    this.#statistics = statistics;
    this.loads = loads;
  }

  /** Closes the books of what is not in `set` any more, and begins anew whatever stands for something else in it. */
  apply({ frontends, backends }: ServiceSet): void {
    const places = new Int32Array(LOADS_LENGTH * 2);
    const note = (element: number, { address, port, protocol }: Endpoint): void => {
      places[element * 2] = address;
      places[element * 2 + 1] = portKey(port, protocol);
    };
    for (const frontend of frontends) note(frontendLoad(frontend.index), frontend);
    for (const { servers } of backends) for (const server of servers) note(server.index, server);
    const last = this.#places;
    this.#places = places;
    for (let element = 0, at = 0; element < LOADS_LENGTH; element++, at += 2) {
      if (places[at] === last[at] && places[at + 1] === last[at + 1]) continue;
      this.#close(element);
      if (!this.#isVacant(element)) this.#statistics.fill(0, rowOf(element), rowOf(element) + ROW);
    }
  }

  /** The GENERATION word of a flow of `owner` (layout/flow.ts: OWNER) that is opened now. */
  generation(owner: number): number {
    return (this.#generations[frontendLoad(owner >>> 16)] << 16) | this.#generations[owner & 0xffff];
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

  addLoad(owner: number, generation: number, change: number): void {
    const { loads } = this;
    if (this.#isFrontend(owner, generation)) loads[frontendLoad(owner >>> 16)] += change;
    if (this.#isServer(owner, generation)) loads[owner & 0xffff] += change;
  }

  addPorts(owner: number, generation: number, change: number): void {
    if (this.#isServer(owner, generation)) this.#statistics[serverRow(owner & 0xffff) + PORTS] += change;
  }

  #isFrontend(owner: number, generation: number): boolean {
    return this.#generations[frontendLoad(owner >>> 16)] === generation >>> 16;
  }

  #isServer(owner: number, generation: number): boolean {
    return this.#generations[owner & 0xffff] === (generation & 0xffff);
  }

  #takesBytes(element: number, generation: number): boolean {
    const now = this.#generations[element];
    return now === generation || (this.#isVacant(element) && now === ((generation + 1) & 0xffff));
  }

  /** Whether an index stands for nothing. */
  #isVacant(element: number): boolean {
    return this.#places[element * 2 + 1] === 0;
  }

  /** Nothing is open any more under this index, and what was carried stays written. */
  #close(element: number): void {
    this.#generations[element]++;
    this.loads[element] = 0;
    this.#statistics[rowOf(element) + CURRENT] = 0;
    this.#statistics[rowOf(element) + PORTS] = 0;
  }
}

function rowOf(element: number): number {
  return element < MAX_SERVERS ? serverRow(element) : frontendRow(element - MAX_SERVERS);
}
