/** What the main process does about a pcap process that ends, hangs, or does not start: with children that are none. */
import { EventEmitter } from 'node:events';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Orders, WorkerData } from '../../src/engine/messages.ts';
import { PcapThread } from '../../src/engine/pcap-thread.ts';
import { native } from '../../src/io/native.ts';
import { ATTEMPTS } from '../../src/layout/header.ts';
import { memoryIn, memorySize } from '../../src/layout/memory.ts';
import { TIMEOUTS } from '../lab/world.ts';

class Child extends EventEmitter {
  connected = true;
  readonly sent: Partial<WorkerData & { type: string }>[] = [];
  readonly signals: string[] = [];

  send(message: object): void {
    this.sent.push(message);
  }

  kill(signal: string): void {
    if (!this.connected) return;
    this.signals.push(signal);
    this.end(signal);
  }

  ready(): void {
    this.emit('message', { type: 'ready', recovered: 0, wakeFd: -1 });
  }

  end(signal: string): void {
    this.connected = false;
    this.emit('close', null, signal);
  }
}

const children = vi.hoisted((): Child[] => []);
vi.mock(import('node:child_process'), async (original) => ({
  ...(await original()),
  fork: (() => {
    children.push(new Child());
    return children.at(-1);
  }) as never,
}));

const room = { capacity: 64, connections: 32, workers: 1 };
const { fd: memoryFd, buffer } = native().createSharedMemory('lb4-test', memorySize(room));
const { header } = memoryIn(buffer, room, 0);
const orders: Orders = {
  settings: { services: { frontends: [], backends: [] }, timeouts: TIMEOUTS },
  hops: new Map(),
  filter: new Uint32Array(),
};
const data: WorkerData = {
  ...orders,
  memoryFd,
  room,
  worker: 0,
  attempts: 0,
  answersPerSecond: 1,
  answersPerSource: 1,
  floodFrom: 0,
  mtus: new Map([[1, 1500]]),
};
let told: string[];
let failed: string[];

beforeEach(() => {
  vi.useFakeTimers();
  children.length = 0;
  told = [];
  failed = [];
  header[ATTEMPTS] = 0;
});

afterEach(() => vi.useRealTimers());

const later = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds);
const last = (): Child => children.at(-1) ?? expect.fail('there is no process');

async function start(): Promise<PcapThread> {
  const reports = {
    failed: ({ message }: Error) => void failed.push(message),
    signals: () => {},
    flood: () => {},
    ended: () => {},
    told: (text: string) => void told.push(text),
  };
  const thread = PcapThread.start(data, reports);
  last().ready();
  return thread;
}

test('one that ends after a while is followed at once, however many do', async () => {
  await start();
  for (let i = 1; i <= 12; i++) {
    await later(2500);
    last().end('SIGABRT');
    await later(0);
    expect(children).toHaveLength(i + 1);
    last().ready();
    await later(0);
  }
  expect([failed, new Set(told)]).toEqual([
    [],
    new Set(['the pcap process ended by SIGABRT, as it does when an interface goes down: it is started again']),
  ]);
});

test('those that end soon are followed later and later, and never given up', async () => {
  await start();
  for (const seconds of [1, 2, 4, 8, 16, 30, 30, 30]) {
    const before = children.length;
    last().end('SIGSEGV');
    await later(seconds * 1000 - 1);
    expect(children).toHaveLength(before);
    await later(1);
    expect([children.length, told.at(-1)]).toEqual([before + 1, `the pcap process ended by SIGSEGV: it is started again in ${seconds} s`]);
    last().ready();
    await later(0);
  }
  expect(failed).toEqual([]);
});

test('one that cannot start is tried again, while the table is sound', async () => {
  await start();
  await later(5000);
  last().end('SIGABRT');
  await later(0);
  const refuse = async () => {
    last().emit('message', { type: 'failed', message: 'no interface can be captured', code: undefined });
    await later(30_000);
  };
  await refuse();
  await refuse();
  expect([children.length, failed, told.at(-1)]).toEqual([4, [], 'no interface can be captured: it is started again in 2 s']);
  header[ATTEMPTS] = 3;
  await refuse();
  expect([children.length, failed]).toEqual([4, ['no interface can be captured']]);
});

test('starts that failed before one that goes well do not count any more', async () => {
  await start();
  await later(5000);
  header[ATTEMPTS] = 2;
  last().end('SIGABRT');
  await later(0);
  last().ready();
  await later(110_000);
  expect(header[ATTEMPTS]).toBe(2);
  await later(20_000);
  expect([last().sent.at(-1), header[ATTEMPTS]]).toEqual([{ type: 'ask' }, 2]);
  last().emit('message', { type: 'alive' });
  await later(0);
  expect(header[ATTEMPTS]).toBe(0);
});

test('the next one begins with the interfaces that were told while there was none, and hears of those told while it started', async () => {
  const thread = await start();
  const mtus = [9000, 1400].map((mtu) => new Map([[1, mtu]]));
  await later(5000);
  last().end('SIGABRT');
  thread.post({ type: 'interfaces', mtus: mtus[0] });
  await later(0);
  expect(last().sent).toMatchObject([{ mtus: mtus[0], attempts: 1 }]);
  thread.post({ type: 'interfaces', mtus: mtus[1] });
  last().ready();
  await later(0);
  expect(last().sent.slice(1)).toEqual([{ type: 'interfaces', mtus: mtus[1] }]);
});

test('it is asked whether it lives, and answers, or is gone, or there is none', async () => {
  const thread = await start();
  const heard: string[] = [];
  const ask = (name: string) => void thread.pulses[0]?.().then(() => heard.push(name));
  ask('answered');
  await later(10_000);
  expect([last().sent.at(-1), heard]).toEqual([{ type: 'ask' }, []]);
  last().emit('message', { type: 'alive' });
  await later(0);
  ask('gone');
  last().end('SIGABRT');
  await later(0);
  ask('none');
  await later(0);
  expect(heard).toEqual(['answered', 'gone', 'none']);
});

test('one that hangs before it is ready is ended, and another one started', async () => {
  await start();
  await later(5000);
  last().end('SIGABRT');
  await later(0);
  const hanging = last();
  await later(60_000);
  expect(hanging.signals).toEqual(['SIGKILL']);
  await later(1000);
  expect(children).toHaveLength(3);
});

test.each([
  ['hangs', 0, ['SIGKILL']],
  ['is waited with', 1000, []],
])('stopping comes to an end while a start %s', async (_, life, signals) => {
  const thread = await start();
  await later(5000);
  last().end('SIGABRT');
  await later(0);
  if (life > 0) {
    last().ready();
    await later(life);
    last().end('SIGABRT');
    await later(0);
  }
  const before = children.length;
  const stopped = vi.fn();
  void thread.stop().then(stopped);
  await later(2000);
  expect([stopped.mock.calls.length, last().signals, children.length, failed]).toEqual([1, signals, before, []]);
});
