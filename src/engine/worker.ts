/**
 * A thread of the data path. `breathe` is all of it: receive, pipeline, transmit, and now and then a tick. Nothing in it
 * allocates, awaits or logs; the event loop of this thread never runs.
 */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import type { Ports } from '../forward/crossing.ts';
import type { RingDriver } from '../io/driver.ts';
import { native } from '../io/native.ts';
import { openPacketSocket } from '../io/packet-socket.ts';
import { portFilter } from '../io/port-filter.ts';
import { TRANSMIT_FAILED } from '../layout/counters.ts';
import { CLOCK, REFUSED } from '../layout/frames.ts';
import type { Capture } from './capture.ts';
import { SLICE } from './duties.ts';
import { coarseFilterForAll } from './filter.ts';
import { indexesOf } from './inline-ports.ts';
import { type FromWorker, type RingData, type ToWorker, TURN, type WorkerData } from './messages.ts';
import { openWorkplace } from './workplace.ts';

const PAGE_WORDS = 1024;
/** BPF_RET | BPF_K of 0 bytes: takes no frame. */
const NOTHING = Uint32Array.of(6, 0);

const ring = workerData as RingData;
const turn = new Int32Array(ring.turn);
const port = parentPort!;
let filter: Uint32Array = NOTHING;
// First, so that what it allocates is near.
if (ring.cpu !== undefined) native().pinThread([ring.cpu]);
const driver: RingDriver = openPacketSocket(ring.ringSlots, filter, ring.busyPollUs, ring.takesAll);
// Before another lb4's socket is gone: a NIC that is promiscuous for nobody takes no frame for others, and to acquire the memory takes a while.
if (ring.ports !== undefined) driver.setPorts(ring.ports);
const other = ring.memoryFd === undefined ? undefined : mapTouched(ring.memoryFd);
tell({ type: 'open', fd: driver.fd });
const data = awaitTurn();
const mapping = data.attempts > 0 && other !== undefined ? other : native().mapSharedMemory(data.memoryFd);
const { core, duties, frames, gauges, capture } = openWorkplace(data, mapping, driver, tell);
const { process } = core;

let stopping = false;
/** While somebody looks. */
let captured: Capture | undefined;
/** The filter is the fast path's. */
let isTapped = false;

usePorts(data.ports);
tell({ type: 'ready', recovered: duties.begin(data), wakeFd: driver.wakeFd });
waitWhile(TURN.own);
breathe();
drain();
duties.finish(frames[CLOCK]);
tell({ type: 'stopped' });
driver.close();
port.close();

/** Every page of about its own part read once: the first look at it costs as much as a thousand others, while nobody waits yet. */
function mapTouched(fd: number): ArrayBuffer | undefined {
  try {
    const touched = native().mapSharedMemory(fd);
    const words = new Int32Array(touched, 0, touched.byteLength >>> 2);
    const part = Math.ceil(words.length / ring.workers);
    const end = Math.min(words.length, (ring.worker + 1) * part);
    for (let at = ring.worker * part; at < end; at += PAGE_WORDS) Atomics.load(words, at);
    return touched;
  } catch {
    return undefined; // whoever acquires it says why
  }
}

/** What another lb4 forwards must not be forwarded twice; what nobody does waits in the ring. */
function awaitTurn(): WorkerData {
  waitWhile(TURN.others);
  if (ring.tap === undefined) useFilter(ring.filter);
  else native().filterBy(driver.fd, ring.tap);
  waitWhile(TURN.nobodys);
  return receiveMessageOnPort(port)!.message as WorkerData;
}

/** A store and its notification are two steps: one that comes late wakes whoever waits for the next turn by then. */
function waitWhile(value: number): void {
  while (Atomics.load(turn, 0) === value) Atomics.wait(turn, 0, value);
}

function breathe(): void {
  while (!stopping) {
    const count = driver.receive(frames, duties.idleTime());
    if (count > 0) forward(count);
    const now = frames[CLOCK];
    if (duties.isOrdered) obey(now);
    // Messages wake the thread without a frame; a tick for each frame that comes alone would cost more than the frame.
    else if (duties.isDue(now)) tick(now);
    else if (duties.isSweeping) duties.goOn(now, SLICE);
    else if (count === 0) tick(now);
  }
}

function forward(count: number): void {
  if (captured === undefined) process(count);
  else captured.process(count);
  driver.transmit(frames, count);
  if (frames[REFUSED] !== 0) gauges[TRANSMIT_FAILED] += frames[REFUSED];
}

/** What is in the ring by now is forwarded, and counted, as nobody else could; what comes later is lost either way, and was never received. */
function drain(): void {
  try {
    driver.setFilter(NOTHING);
  } catch {
    // Then it was received, and has no verdict.
  }
  for (let left = ring.ringSlots; left > 0; ) {
    const count = driver.receive(frames, 0);
    if (count === 0) return;
    forward(count);
    left -= count;
  }
}

/** What is not about a packet. */
function tick(now: number): void {
  while (!duties.isOrdered) {
    const message = receiveMessageOnPort(port);
    if (message === undefined) break;
    handle(message.message as ToWorker);
  }
  duties.tick(now, SLICE);
}

/** Does a slice of an order, and looks for packets before the next one; messages behind the order wait for its end. */
function obey(now: number): void {
  duties.obey(SLICE, now);
  if (!duties.isOrdered || duties.isDue(now)) tick(now);
}

function handle(message: ToWorker): void {
  if (message.type === 'stop') stopping = true;
  else if (message.type === 'ask') tell({ type: 'alive' });
  else if (message.type === 'interfaces') {
    duties.setInterfaces(message.mtus, message.ports);
    usePorts(message.ports);
  } else if (message.type === 'end') duties.end(message.records);
  else if (message.type === 'takeBack') duties.takeBack(message.records);
  else if (message.type === 'capture') captured = capture(message.order);
  else {
    duties.apply(message);
    if (!ring.takesAll) useFilter(message.filter);
    tell({ type: 'applied' });
  }
}

/** An interface that is another one by now, or was not there, is a port from now on. */
function usePorts(ports: Ports | undefined): void {
  if (ports === undefined) return;
  driver.setPorts(indexesOf(ports));
  if (data.maps !== undefined) {
    // It knows them from the main thread, and those of their frames that are the kernel's.
    if (!isTapped) native().filterBy(driver.fd, data.maps.tap);
    isTapped = true;
  } else useFilter(portFilter(indexesOf(ports).filter((ifindex) => ifindex !== 0)));
}

function tell(message: FromWorker): void {
  port.postMessage(message);
}

/**
 * The kernel charges filters to net.core.optmem_max (20 KB on many hosts): one that it has no room for beside the old one gives way to the
 * coarse one, which always fits.
 */
function useFilter(wanted: Uint32Array): void {
  if (wanted.length === filter.length && wanted.every((word, i) => word === filter[i])) return;
  filter = wanted;
  try {
    driver.setFilter(wanted);
  } catch {
    driver.setFilter(coarseFilterForAll());
  }
}
