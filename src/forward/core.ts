/** The packet core, wired once: the worker, the benchmark and the tests all drive the same. */
import { SourceTable, sourceMemory } from '../access/source-table.ts';
import { HalfOpen } from '../flow/half-open.ts';
import { Records } from '../flow/records.ts';
import { FlowTable } from '../flow/table.ts';
import { CLOCK } from '../layout/frames.ts';
import { type HashKey, homesIn, type Memory } from '../layout/memory.ts';
import type { Slab } from '../packet/fields.ts';
import { ALL_PORTS, type PortSlice, steeringKey, workerOfSlice } from '../packet/steering.ts';
import { Bonds } from './affinity.ts';
import { Clash } from './clash.ts';
import { Connections } from './connections.ts';
import { Crossing } from './crossing.ts';
import { EndingLog } from './endings.ts';
import { FilledLimits } from './filled-limits.ts';
import { Ledger } from './ledger.ts';
import { LastHops } from './next-hops.ts';
import { Opener } from './opener.ts';
import { Passing } from './passing.ts';
import { createPipeline, type Pipeline } from './pipeline.ts';
import { RateLimit, SharedLimit } from './rate-limit.ts';
import { createReadAhead } from './read-ahead.ts';
import { Rows } from './rows.ts';
import { Services } from './services.ts';
import { Signals } from './signals.ts';
import { createSlowPath } from './slow-path.ts';
import { SourceCounts } from './source-counts.ts';
import { Sweep } from './sweep.ts';
import { SynGuard } from './syn-guard.ts';
import { WayBack } from './way-back.ts';
import { createWrap } from './wrap.ts';

export interface CoreOptions {
  readonly memory: Memory;
  /** Where the driver receives frames, and the descriptors of a batch (layout/frames.ts). */
  readonly slab: Slab;
  readonly frames: Int32Array;
  readonly hashKey: HashKey;
  /** Flows and next hops are in the kernel's maps. */
  readonly isInKernel?: boolean | undefined;
  /** Resets and ICMP errors that lb4 sends itself. */
  readonly answersPerSecond: number;
  /** Those of them to one address; as many as to all when left out. */
  readonly answersPerSource?: number | undefined;
  /** From so many half-open connections on SYNs may be a flood (syn-guard.ts); never when left out. */
  readonly floodFrom?: number | undefined;
  /** The source ports that it hands out; all when left out. */
  readonly slice?: PortSlice;
  /** It stands between interfaces, and every frame of theirs comes up: MACs and TTL stay, what is no service's crosses. */
  readonly isInline?: boolean | undefined;
  /** What all workers know of sources (access/source-table.ts); left out: it is the only one. */
  readonly sources?: Int32Array | undefined;
}

/** ICMP errors a second that go on to one flow's sender: Linux makes one a second itself (icmp(7): icmp_ratelimit), path MTU discovery needs one a path. */
const ERRORS_PER_FLOW = 10;
/** Pings a second that lb4 answers itself, each with as much as it asks: in all and to one address. Whoever sends more is no monitor. */
const ECHOES_PER_SECOND = 10_000;
const ECHOES_PER_SOURCE = 1000;

export interface Core {
  readonly process: Pipeline;
  readonly table: FlowTable;
  readonly records: Records;
  readonly halfOpen: HalfOpen;
  readonly datagrams: HalfOpen;
  readonly ledger: Ledger;
  readonly services: Services;
  readonly opener: Opener;
  readonly connections: Connections;
  readonly sweep: Sweep;
  readonly lastHops: LastHops;
  readonly wayBack: WayBack;
  readonly signals: Signals;
  readonly bonds: Bonds;
  readonly guard: SynGuard;
  readonly filled: FilledLimits;
  /** For the connection log; off until it is told otherwise. */
  readonly endings: EndingLog;
  /** Where it stands between interfaces. */
  readonly crossing: Crossing | undefined;
  /** Collects the byte counts of those who carry most, between two sweeps ({@link Sweep.collectLatest}). */
  readonly collectLatest: () => void;
}

/**
 * A core over `memory`, without services or timeouts yet.
 * @throws RangeError when its flow table has another size than tableCapacity() gives
 */
export function createCore(options: CoreOptions): Core {
  const {
    memory,
    slab,
    frames,
    hashKey,
    isInKernel,
    answersPerSecond,
    answersPerSource = answersPerSecond,
    slice,
    isInline = false,
  } = options;
  const { hops, counters } = memory;
  const { verdicts } = counters;
  const table = new FlowTable(memory.flows, homesIn(memory.flows), hashKey, isInKernel);
  const records = new Records(memory.connections);
  const links = new Int32Array(records.capacity * 2);
  const halfOpen = new HalfOpen(links);
  const datagrams = new HalfOpen(links);
  const ledger = new Ledger(counters);
  const sources = new SourceTable(options.sources ?? sourceMemory(records.capacity));
  const services = new Services(ledger, hops, slice, { sources, refusals: counters.refusals, seed: hashKey[3] });
  const sourceCounts = new SourceCounts({ table, records, services, sources });
  const signals = new Signals();
  const lastHops = new LastHops(hops);
  const bonds = new Bonds(memory.affinity, hashKey);
  const endings = new EndingLog(table, records);
  const filled = new FilledLimits(ledger);
  const connections = new Connections({
    table,
    records,
    halfOpen,
    datagrams,
    services,
    ledger,
    signals,
    lastHops,
    bonds,
    endings,
    sourceCounts,
  });
  // In a small table never more than a few may be half-open: half of those are many.
  const from = Math.min(options.floodFrom ?? 0, Math.ceil(connections.mostHalfOpen / 2));
  const guard = new SynGuard({ from, key: hashKey, filled, memory: memory.syns });
  const sweep = new Sweep({ table, records, halfOpen, datagrams, lastHops, connections, endings, guard });
  const passing = new Passing();
  const clash = new Clash(table, passing, { ...workerOfSlice(slice ?? ALL_PORTS), key: steeringKey(hashKey) });
  const rows = new Rows({ table, records, services, connections });
  const opener = new Opener({ table, records, services, ledger, connections, clash, bonds, rows });
  const answers = new RateLimit(answersPerSecond);
  const answersEach = new SharedLimit(answersPerSource, [hashKey[0], hashKey[1]]);
  const errorsEach = new SharedLimit(ERRORS_PER_FLOW, [hashKey[2], hashKey[3]]);
  const echoes = new RateLimit(ECHOES_PER_SECOND);
  const echoesEach = new SharedLimit(ECHOES_PER_SOURCE, [hashKey[1], hashKey[2]]);
  const crossing = isInline ? new Crossing({ slab, frames, hops, verdicts, seed: hashKey[0] }) : undefined;
  const wrap = createWrap({ slab, frames, table, hops });
  const slowPath = createSlowPath({
    slab,
    frames,
    table,
    hops,
    lastHops,
    services,
    opener,
    connections,
    verdicts,
    answers,
    answersEach,
    errorsEach,
    echoes,
    echoesEach,
    guard,
    passing,
    crossing,
    wrap,
    rows,
  });
  const readAhead = createReadAhead({ slab, frames, table, records });
  const pipeline = createPipeline({
    slab,
    frames,
    table,
    hops,
    verdicts,
    slowPath,
    readAhead,
    wrap,
    rows,
    tables: services.tables,
    isInline,
  });
  const wayBack = new WayBack({ slab, frames, table, records, lastHops });
  // Between interfaces answers leave by a port, whatever MAC addresses there are.
  const process = isInline ? pipeline : lookingBack(pipeline, wayBack, frames);
  const collectLatest = (): void => sweep.collectLatest(frames);
  return {
    process,
    table,
    records,
    halfOpen,
    datagrams,
    ledger,
    services,
    opener,
    connections,
    sweep,
    lastHops,
    wayBack,
    signals,
    bonds,
    guard,
    filled,
    endings,
    crossing,
    collectLatest,
  };
}

/** A pipeline before which, now and then, one frame shows whether its client still comes the way that its answers go. */
function lookingBack(pipeline: Pipeline, wayBack: WayBack, frames: Int32Array): Pipeline {
  return (batch) => {
    const now = frames[CLOCK];
    if (wayBack.isDue(now)) wayBack.look(batch, now);
    pipeline(batch);
  };
}
