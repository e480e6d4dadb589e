/**
 * The data path's thread. `breathe` is all of it: receive, pipeline, transmit, and now and then a tick. Nothing in it
 * allocates, awaits or logs; the event loop of this thread never runs.
 */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { type Core, createCore } from '../forward/core.ts';
import type { RingDriver } from '../io/driver.ts';
import { native } from '../io/native.ts';
import { openPacketSocket } from '../io/packet-socket.ts';
import { TRANSMIT_FAILED } from '../layout/counters.ts';
import { CLOCK, createFrames, REFUSED } from '../layout/frames.ts';
import { memoryIn } from '../layout/memory.ts';
import { slabOf } from '../packet/fields.ts';
import { Duties } from './duties.ts';
import { coarseFilterForAll } from './filter.ts';
import type { FromWorker, ToWorker, WorkerData } from './messages.ts';

/** Empty looks at the ring before the thread sleeps, some 10 µs: a wake-up by the kernel costs about as much. */
const SPINS = 50;

const data = workerData as WorkerData;
const port = parentPort!;
const memory = memoryIn(native().mapSharedMemory(data.memoryFd), data.room);
const { gauges } = memory.counters;
const frames = createFrames();
let { filter } = data;
const driver = open();
const core: Core = createCore({
  memory,
  slab: slabOf(driver.slab),
  frames,
  hashKey: data.hashKey,
  answersPerSecond: data.answersPerSecond,
});
const { process } = core;
const duties = new Duties({
  core,
  memory,
  driver,
  signals: (servers) => tell({ type: 'signals', servers }),
  sources: (addresses) => tell({ type: 'sources', addresses }),
});

let stopping = false;

tell({ type: 'ready', recovered: duties.begin(data), wakeFd: driver.wakeFd });
breathe();
driver.close();
port.close();

function breathe(): void {
  let idle = 0;
  while (!stopping) {
    const timeout = idle < SPINS ? 0 : duties.idleTime();
    const count = driver.receive(frames, timeout);
    if (count > 0) {
      process(count);
      driver.transmit(frames, count);
      if (frames[REFUSED] !== 0) gauges[TRANSMIT_FAILED] += frames[REFUSED];
      idle = 0;
    } else idle++;
    const now = frames[CLOCK];
    if (timeout !== 0 || duties.isDue(now)) tick(now);
  }
}

/** What is not about a packet. */
function tick(now: number): void {
  for (let message = receiveMessageOnPort(port); message !== undefined; message = receiveMessageOnPort(port))
    handle(message.message as ToWorker);
  duties.tick(now);
}

function handle(message: ToWorker): void {
  if (message.type === 'stop') stopping = true;
  else if (message.type === 'interfaces') duties.setInterfaces(message.mtus);
  else {
    duties.apply(message);
    useFilter(message.filter);
    tell({ type: 'applied' });
  }
}

function tell(message: FromWorker): void {
  port.postMessage(message);
}

/** The kernel charges filters to net.core.optmem_max (20 KB on many hosts): where the exact one is too large, a coarse one does. */
function open(): RingDriver {
  try {
    return openPacketSocket(data.ringSlots, filter);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOMEM') throw error;
    return openPacketSocket(data.ringSlots, coarseFilterForAll());
  }
}

/** A filter that the kernel has no room for beside the old one gives way to the coarse one, which always fits. */
function useFilter(wanted: Uint32Array): void {
  if (wanted.length === filter.length && wanted.every((word, i) => word === filter[i])) return;
  filter = wanted;
  try {
    driver.setFilter(wanted);
  } catch {
    driver.setFilter(coarseFilterForAll());
  }
}
