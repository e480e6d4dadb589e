/** What a worker works with, wired once for whichever driver: the packet core over its part of the memory, and its duties. */
import { type Core, createCore } from '../forward/core.ts';
import type { Driver } from '../io/driver.ts';
import { dropsOfFrontend, dropsOfWorker, mapAll } from '../io/fast-path.ts';
import { createFrames } from '../layout/frames.ts';
import { keyIn, type Memory, memoryIn } from '../layout/memory.ts';
import { slabOf } from '../packet/fields.ts';
import { portSlice } from '../packet/steering.ts';
import { Capture, mapRings } from './capture.ts';
import { Duties } from './duties.ts';
import { EarlyDrops } from './early-drops.ts';
import type { CaptureOrder, FromWorker, WorkerData } from './messages.ts';

export interface Workplace {
  readonly core: Core;
  readonly duties: Duties;
  /** The descriptors of a batch. */
  readonly frames: Int32Array;
  /** Its own (layout/counters.ts). */
  readonly gauges: Float64Array;
  /** A worker that is looked at; undefined: nobody looks. */
  readonly capture: (order: CaptureOrder | undefined) => Capture | undefined;
}

/** @param mapping all of the shared memory */
export function openWorkplace(data: WorkerData, mapping: ArrayBuffer, driver: Driver, tell: (message: FromWorker) => void): Workplace {
  const { room, worker } = data;
  const answersPerSecond = shareOf(data.answersPerSecond, worker, room.workers);
  // One to each at the least: a source's packets may all be one worker's.
  const answersPerSource = data.answersPerSource === 0 ? 0 : Math.max(1, shareOf(data.answersPerSource, worker, room.workers));
  const floodFrom = Math.ceil(data.floodFrom / room.workers);
  const memory = memoryIn(mapping, room, worker, data.maps === undefined ? undefined : mapAll(data.maps));
  const frames = createFrames();
  const slice = portSlice(worker, room.workers);
  const { isInKernel } = room;
  const hashKey = keyIn(memory.header);
  const slab = slabOf(driver.slab);
  const core = createCore({
    memory,
    slab,
    frames,
    hashKey,
    isInKernel,
    answersPerSecond,
    answersPerSource,
    floodFrom,
    slice,
    isInline: data.ports !== undefined,
    sources: data.sources,
  });
  const duties = new Duties({
    core,
    memory,
    driver,
    drops: data.maps && earlyDropsOf(data.maps.drops, worker, core.guard, memory.counters),
    signals: (servers) => tell({ type: 'signals', servers }),
    flood: (flood) => tell({ type: 'flood', flood }),
    sources: (addresses) => tell({ type: 'sources', addresses }),
    ended: (endings) => tell({ type: 'ended', endings }),
  });
  let rings: ArrayBuffer | undefined;
  let last: Capture | undefined;
  const capture = (order: CaptureOrder | undefined): Capture | undefined => {
    if (order !== undefined) rings ??= mapped(order);
    if (order === undefined || rings === undefined) last = undefined;
    else if (last === undefined) last = new Capture({ core, slab, frames, worker, rings, order });
    else last.follow(order);
    return last;
  };
  return { core, duties, frames, gauges: memory.counters.gauges, capture };
}

/** @param drops the map */
function earlyDropsOf(drops: number, worker: number, guard: Core['guard'], counters: Memory['counters']): EarlyDrops {
  const ofWorker = () => dropsOfWorker(drops, worker);
  const ofFrontend = (index: number) => dropsOfFrontend(drops, index);
  return new EarlyDrops({ ofWorker, ofFrontend, isFirst: worker === 0, guard, counters });
}

/** Whoever forwards goes on without: that its ring was not taken its main thread sees. */
function mapped(order: CaptureOrder): ArrayBuffer | undefined {
  try {
    return mapRings(order);
  } catch {
    return undefined;
  }
}

/** Of whole numbers that all shares come to: the first workers have one more where they must. */
function shareOf(whole: number, worker: number, workers: number): number {
  return Math.floor(whole / workers) + Number(worker < whole % workers);
}
