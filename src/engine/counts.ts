/** What all workers have counted, added up: read from shared memory, nobody is asked. */
import { type VerdictName, verdictNames } from '../forward/verdict.ts';
import {
  AFFINITY_EVICTED,
  ANSWERED,
  CURRENT,
  DATAGRAM_FLOWS,
  DATAGRAMS_EVICTED,
  DROPPED,
  DUE,
  FLOWS,
  frontendLoad,
  frontendRow,
  HALF_OPEN,
  HALF_OPEN_EVICTED,
  RECEIVED,
  REFUSALS,
  RX,
  refusalRow,
  STATIONS_EVICTED,
  SYN_FLOODS,
  serverRow,
  TOTAL,
  TRANSMIT_FAILED,
  TX,
  WAYS_MOVED,
} from '../layout/counters.ts';
import type { Memory } from '../layout/memory.ts';

/** Connections and payload bytes of a frontend or a server; tx is client → server. */
export interface Tally {
  readonly total: number;
  readonly current: number;
  readonly bytesTx: number;
  readonly bytesRx: number;
  /** Connections from their SYN until they end. */
  readonly load: number;
}

/** Frames through a worker's socket, its live flow entries (two a connection), half-open connections, flows of datagrams, clients with affinity. */
export interface Gauges {
  readonly received: number;
  readonly dropped: number;
  readonly transmitFailed: number;
  readonly flows: number;
  readonly halfOpen: number;
  readonly halfOpenEvicted: number;
  readonly datagrams: number;
  readonly datagramsEvicted: number;
  readonly affinityEvicted: number;
  readonly stationsEvicted: number;
  /** Workers that see a flood of SYNs. */
  readonly synFloods: number;
  readonly waysMoved: number;
}

const PLACES: Readonly<Record<keyof Gauges, number>> = {
  received: RECEIVED,
  dropped: DROPPED,
  transmitFailed: TRANSMIT_FAILED,
  flows: FLOWS,
  halfOpen: HALF_OPEN,
  halfOpenEvicted: HALF_OPEN_EVICTED,
  datagrams: DATAGRAM_FLOWS,
  datagramsEvicted: DATAGRAMS_EVICTED,
  affinityEvicted: AFFINITY_EVICTED,
  stationsEvicted: STATIONS_EVICTED,
  synFloods: SYN_FLOODS,
  waysMoved: WAYS_MOVED,
};
const NAMES = Object.keys(PLACES) as (keyof Gauges)[];

export class Counts {
  readonly #memories: readonly Memory[];

  /** @param memories one a worker */
  constructor(memories: readonly Memory[]) {
    this.#memories = memories;
  }

  /** How many packets ended how. */
  verdicts(): Record<VerdictName, number> {
    const entries = verdictNames.map((name, i) => [name, this.#sum(({ counters }) => counters.verdicts[i])]);
    return Object.fromEntries(entries) as Record<VerdictName, number>;
  }

  /** Of each worker, in order. */
  workers(): Gauges[] {
    return this.#memories.map(({ counters: { gauges } }) => gaugesOf((name) => gauges[PLACES[name]]));
  }

  gauges(): Gauges {
    return gaugesOf((name) => this.#sum(({ counters }) => counters.gauges[PLACES[name]]));
  }

  /** A word of the statistics (layout/counters.ts). */
  statistic(at: number): number {
    return this.#sum(({ counters }) => counters.statistics[at]);
  }

  /** By its index, as of all that have one. */
  frontend(index: number): Tally {
    return this.#tallyAt(frontendRow(index), frontendLoad(index));
  }

  server(index: number): Tally {
    return this.#tallyAt(serverRow(index), index);
  }

  /** Connections of a server whose answer is due, and those that were answered (layout/counters.ts). */
  answers(index: number): { due: number; answered: number } {
    return this.#answersAt(serverRow(index));
  }

  /** The same of a frontend. */
  frontendAnswers(index: number): { due: number; answered: number } {
    return this.#answersAt(frontendRow(index));
  }

  /** A frontend's row of the refusals (layout/counters.ts), of all workers. */
  refusals(index: number): number[] {
    const row = refusalRow(index);
    return Array.from({ length: REFUSALS }, (_, column) => this.#sum(({ counters }) => counters.refusals[row + column]));
  }

  #answersAt(row: number): { due: number; answered: number } {
    return { due: this.statistic(row + DUE), answered: this.statistic(row + ANSWERED) };
  }

  #tallyAt(row: number, element: number): Tally {
    return {
      total: this.statistic(row + TOTAL),
      current: this.statistic(row + CURRENT),
      bytesTx: this.statistic(row + TX),
      bytesRx: this.statistic(row + RX),
      load: this.#memories[0].counters.loads[element],
    };
  }

  #sum(of: (memory: Memory) => number): number {
    let sum = 0;
    for (const memory of this.#memories) sum += of(memory);
    return sum;
  }
}

function gaugesOf(read: (name: keyof Gauges) => number): Gauges {
  return Object.fromEntries(NAMES.map((name) => [name, read(name)])) as Record<keyof Gauges, number>;
}
