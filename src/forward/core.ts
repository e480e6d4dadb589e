/** The packet core, wired once: the worker, the benchmark and the tests all drive the same. */
import { FlowTable, type HashKey } from '../flow/table.ts';
import type { Memory } from '../layout/memory.ts';
import type { Slab } from '../packet/fields.ts';
import { Connections } from './connections.ts';
import { Ledger } from './ledger.ts';
import { LastHops } from './next-hops.ts';
import { Openings } from './openings.ts';
import { createPipeline, type Pipeline } from './pipeline.ts';
import { RateLimit } from './rate-limit.ts';
import { Services } from './services.ts';
import { Trouble } from './trouble.ts';

export interface CoreOptions {
  readonly memory: Memory;
  /** Where the driver receives frames, and the descriptors of a batch (layout/frames.ts). */
  readonly slab: Slab;
  readonly frames: Int32Array;
  /** Slots of the flow table, a power of two. */
  readonly capacity: number;
  readonly hashKey: HashKey;
  /** Live entries beyond which new connections are refused. */
  readonly maximum: number;
  /** Resets and ICMP errors that lb4 sends itself. */
  readonly answersPerSecond: number;
}

export interface Core {
  readonly process: Pipeline;
  readonly table: FlowTable;
  readonly ledger: Ledger;
  readonly services: Services;
  readonly openings: Openings;
  readonly connections: Connections;
  readonly lastHops: LastHops;
  readonly trouble: Trouble;
}

/**
 * A core over `memory`, without services or timeouts yet.
 * @throws RangeError when `capacity` is no power of two, or the memory is too small for it
 */
export function createCore({ memory, slab, frames, capacity, hashKey, maximum, answersPerSecond }: CoreOptions): Core {
  const { hops, counters } = memory;
  const { verdicts } = counters;
  const table = new FlowTable(memory.flows, capacity, hashKey);
  const ledger = new Ledger(counters.statistics, counters.loads);
  const services = new Services(ledger);
  const trouble = new Trouble();
  const lastHops = new LastHops(hops);
  const openings = new Openings({ table, services, ledger, maximum });
  const connections = new Connections({ table, services, ledger, trouble, lastHops });
  const answers = new RateLimit(answersPerSecond);
  const process = createPipeline({ slab, frames, table, hops, lastHops, services, openings, connections, verdicts, answers });
  return { process, table, ledger, services, openings, connections, lastHops, trouble };
}
