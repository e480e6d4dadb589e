/** A packet worker that dies: before all forward the start fails with what it died of, afterwards that is told. With workers that are none. */
import { EventEmitter } from 'node:events';
import { beforeEach, expect, test, vi } from 'vitest';
import { WaitingCrew } from '../../src/engine/crew.ts';
import type { WorkerData } from '../../src/engine/messages.ts';
import type { Forwarder } from '../../src/engine/thread.ts';
import { TIMEOUTS } from '../lab/world.ts';

class NoWorker extends EventEmitter {
  readonly sent: unknown[] = [];

  constructor() {
    super();
    workers.push(this);
    setImmediate(() => this.emit('message', { type: 'open', fd: 7 }));
  }

  postMessage(message: unknown): void {
    this.sent.push(message);
  }

  ready(): void {
    this.emit('message', { type: 'ready', recovered: 0, wakeFd: 9 });
  }

  die(error: Error): void {
    this.emit('error', error);
    this.emit('exit', 1);
  }

  async terminate(): Promise<void> {
    this.emit('exit', 1);
  }
}

const workers = vi.hoisted((): NoWorker[] => []);
vi.mock(import('node:worker_threads'), async (original) => {
  // A function, so that `new` gives what it returns.
  const create = function () {
    return new NoWorker();
  };
  return { ...(await original()), Worker: create as never };
});
vi.mock(import('../../src/io/native.ts'), () => ({ native: () => ({ fanOut: () => [], wake: () => {} }) as never }));

const WORKERS = 2;
const failed = vi.fn();
const reports = { failed, told: () => {}, signals: () => {}, flood: () => {}, ended: () => {} };
const data: Omit<WorkerData, 'worker'> = {
  settings: { services: { frontends: [], backends: [] }, timeouts: TIMEOUTS },
  hops: new Map(),
  filter: new Uint32Array(),
  memoryFd: 3,
  room: { capacity: 64, connections: 32, workers: WORKERS },
  attempts: 0,
  answersPerSecond: 1,
  answersPerSource: 1,
  floodFrom: 0,
  mtus: new Map(),
};
const EIO = new Error('poll(AF_PACKET): Input/output error');

async function waiting(): Promise<WaitingCrew> {
  const ring = { ringSlots: 64, busyPollUs: 0, filter: new Uint32Array(), memoryFd: undefined };
  return WaitingCrew.open({ workers: WORKERS, cpus: undefined, key: [1, 3, 5, 7], ring });
}

async function forwarding(): Promise<Forwarder> {
  const beginning = (await waiting()).begin(data, reports);
  for (const worker of workers) worker.ready();
  return beginning;
}

beforeEach(() => {
  workers.length = 0;
  failed.mockReset();
});

test('one that is ready dies before the last one is: the start fails with what it died of, and all are gone', async () => {
  const beginning = (await waiting()).begin(data, reports);
  const ended = vi.fn();
  workers[1].on('exit', ended);
  workers[0].ready();
  // Until it is known to be ready.
  await new Promise(setImmediate);
  workers[0].die(EIO);
  workers[1].ready();
  await expect(beginning).rejects.toBe(EIO);
  expect(ended).toHaveBeenCalled();
  expect(failed).not.toHaveBeenCalled();
});

test('one that forwards dies: that is told once', async () => {
  await forwarding();
  workers[0].die(EIO);
  await new Promise(setImmediate);
  expect(failed.mock.calls).toEqual([[EIO]]);
});

test('one ends without a word: that is told, too, and who waits for its answer goes on', async () => {
  const crew = await forwarding();
  const applied = crew.apply(data);
  for (const worker of workers) worker.emit('exit', 0);
  await applied;
  expect(failed.mock.calls[0]).toEqual([expect.objectContaining({ message: 'a packet worker ended, and nobody had asked it to' })]);
});

test('one that is stopped ends as it was asked to', async () => {
  const crew = await forwarding();
  const stopped = crew.stop();
  for (const worker of workers) worker.emit('exit', 0);
  await stopped;
  expect(failed).not.toHaveBeenCalled();
});
