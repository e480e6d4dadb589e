/** Threads and processors, by the addon and by what the kernel says of it. */
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { readCpus } from '../../src/config/cpus.ts';
import { native } from '../../src/io/native.ts';

const addon = native();
const path = createRequire(import.meta.url).resolve('../../build/Release/lb4.node');

interface Told {
  readonly before: number[];
  readonly after: number[];
  /** By the addon, as a thread that is pinned sees it. */
  readonly usable: number[];
  /** The thread's line in /proc: `Cpus_allowed_list`. */
  readonly allowed: string;
  readonly refused: { readonly code?: string; readonly message?: string };
}

/** A worker pins itself and looks about. */
function pinned(cpus: readonly number[]): Promise<Told> {
  const worker = new Worker(
    `const { parentPort, workerData: { path, cpus } } = require('node:worker_threads');
     const addon = require(path);
     const before = addon.threadCpus();
     addon.pinThread(cpus);
     let refused = {};
     try { addon.pinThread([8190, 8191]); } catch ({ code, message }) { refused = { code, message }; }
     const status = require('node:fs').readFileSync('/proc/thread-self/status', 'latin1');
     const allowed = /^Cpus_allowed_list:\\s*(.*)$/m.exec(status)[1];
     parentPort.postMessage({ before, after: addon.threadCpus(), usable: addon.usableCpus(), allowed, refused });`,
    { eval: true, workerData: { path, cpus } },
  );
  return new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
}

const usable = addon.usableCpus();

it.each(usable.slice(0, 4))('a worker pins itself to processor %i, and nobody else', async (cpu) => {
  const before = addon.threadCpus();
  const told = await pinned([cpu]);
  expect(told).toMatchObject({ before, after: [cpu], usable, allowed: `${cpu}` });
  expect(told.refused).toEqual({ code: 'EINVAL', message: 'sched_setaffinity(processors 8190,8191): Invalid argument' });
  expect(addon.threadCpus()).toEqual(before);
});

it('a worker pins itself to several', async () => {
  const { after, allowed } = await pinned([...usable].reverse());
  expect(after).toEqual(usable);
  // /proc may list processors that are not there.
  expect(readCpus(allowed)).toEqual({ cpus: expect.arrayContaining(usable) });
});

it('what this thread may use is a part of what the process may', () => {
  expect(usable.length).toBeGreaterThan(0);
  expect(usable).toEqual(expect.arrayContaining(addon.threadCpus()));
});
