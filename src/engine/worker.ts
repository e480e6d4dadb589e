/**
 * The data path's thread. `breathe` is all of it: receive, pipeline, transmit, and now and then a tick. Nothing in it
 * allocates, awaits or logs; the event loop of this thread never runs.
 */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { type Core, createCore } from '../forward/core.ts';
import type { Driver } from '../io/driver.ts';
import { native } from '../io/native.ts';
import { openPacketSocket } from '../io/packet-socket.ts';
import { DROPPED, FLOWS, HALF_OPEN, HALF_OPEN_EVICTED, RECEIVED, TRANSMIT_FAILED } from '../layout/counters.ts';
import { CLOCK, createFrames, REFUSED } from '../layout/frames.ts';
import { memoryIn } from '../layout/memory.ts';
import { slabOf } from '../packet/fields.ts';
import { coarseFilterForAll } from './filter.ts';
import type { FromWorker, Orders, ToWorker, WorkerData } from './messages.ts';
import { attempt, recover } from './recovery.ts';

/** Milliseconds between ticks under load, and while connections are idle. With none at all only a message wakes us. */
const BUSY_TICK = 10;
const IDLE_TICK = 100;
const EMPTY_TICK = 1000;
/** Milliseconds between two messages about signals. */
const SIGNALS_TICK = 100;
/** Every entry of the flow table is visited once in this time. */
const SWEEP_MS = 1000;
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
const { process, table, halfOpen, services, connections, lastHops, signals } = core;
const evictedBefore = gauges[HALF_OPEN_EVICTED];

let stopping = false;
let lastTick = 0;
let sweptTo = 0;
let lastTold = 0;

apply(data);
lastHops.setInterfaces(data.mtus);
const recovered = data.isFound ? attempt(memory.header, () => recover(core, data.settings.services, data.hops)) : 0;
tell({ type: 'ready', wakeFd: driver.wakeFd, recovered });
breathe();
driver.close();
port.close();

function breathe(): void {
  let idle = 0;
  while (!stopping) {
    const timeout = idle < SPINS ? 0 : idleTime();
    const count = driver.receive(frames, timeout);
    if (count > 0) {
      process(count);
      driver.transmit(frames, count);
      if (frames[REFUSED] !== 0) gauges[TRANSMIT_FAILED] += frames[REFUSED];
      idle = 0;
    } else idle++;
    const now = frames[CLOCK];
    if (timeout !== 0 || (now - lastTick) >>> 0 >= BUSY_TICK) tick(now);
  }
}

function idleTime(): number {
  return table.size > 0 ? IDLE_TICK : EMPTY_TICK;
}

/** What is not about a packet: messages, a slice of the sweep, counters of the socket. */
function tick(now: number): void {
  // After a long sleep the sweep falls behind rather than hold up the packet that woke us.
  const elapsed = Math.min((now - lastTick) >>> 0, 2 * IDLE_TICK);
  lastTick = now;
  for (let message = receiveMessageOnPort(port); message !== undefined; message = receiveMessageOnPort(port))
    handle(message.message as ToWorker);
  if (table.size > 0) sweptTo = connections.sweep(sweptTo, Math.ceil((data.room.capacity * elapsed) / SWEEP_MS), now);
  else lastHops.swept();
  if (signals.isNoted && (now - lastTold) >>> 0 >= SIGNALS_TICK) {
    lastTold = now;
    tell({ type: 'signals', servers: signals.take() });
  }
  const { received, dropped } = driver.statistics();
  gauges[RECEIVED] += received;
  gauges[DROPPED] += dropped;
  gauges[FLOWS] = table.size;
  gauges[HALF_OPEN] = halfOpen.size;
  gauges[HALF_OPEN_EVICTED] = evictedBefore + connections.evicted;
}

function handle(message: ToWorker): void {
  if (message.type === 'stop') stopping = true;
  else if (message.type === 'interfaces') lastHops.setInterfaces(message.mtus);
  else {
    apply(message);
    useFilter(message.filter);
    tell({ type: 'applied' });
  }
}

function tell(message: FromWorker): void {
  port.postMessage(message);
}

function apply({ settings: { services: set, timeouts }, hops }: Orders): void {
  services.apply(set, hops);
  connections.setTimeouts(timeouts);
}

/** The kernel charges filters to net.core.optmem_max (20 KB on many hosts): where the exact one is too large, a coarse one does. */
function open(): Driver {
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
