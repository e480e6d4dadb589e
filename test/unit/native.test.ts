/** The addon's functions that need no privilege, its argument checks, and that both descriptions of a frame agree. */
import { execFileSync } from 'node:child_process';
import { fstatSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type NativeAddon, native } from '../../src/io/native.ts';
import { expectNoAbort } from '../lab/wrong-arguments.ts';

const addon: NativeAddon = native();
const path = createRequire(import.meta.url).resolve('../../build/Release/lb4.node');

/** RFC 1071 word by word, big-endian; the addon answers in native (little-endian) order. */
function slowSum(bytes: Uint8Array): number {
  let total = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    total += (bytes[i] << 8) | (bytes[i + 1] ?? 0);
    if (total > 0xffff) total -= 0xffff;
  }
  return ((total & 0xff) << 8) | (total >> 8);
}

function sumOf(bytes: Uint8Array, before = 0): number {
  const buffer = new ArrayBuffer(before + bytes.length + 3);
  new Uint8Array(buffer).fill(0xa5).set(bytes, before);
  return addon.sum(buffer, before, bytes.length);
}

describe('sum', () => {
  it('agrees with the slow reference at every alignment and odd length', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 3000 }), fc.nat(9), (bytes, before) => {
        expect(sumOf(bytes, before)).toBe(slowSum(bytes));
      }),
    );
  });

  it.each([
    ['nothing', [], 0],
    ['zeros', [0, 0, 0, 0], 0],
    ['all ones stay all ones', [0xff, 0xff, 0xff, 0xff], 0xffff],
    ['one odd byte', [0x12], 0x12],
    ["RFC 1071's example", [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], 0xf2dd],
  ])('%s', (_, bytes, expected) => {
    expect(sumOf(Uint8Array.from(bytes))).toBe(expected);
  });

  it('folds every carry of a large buffer', () => {
    const bytes = new Uint8Array(1 << 20).fill(0xff);
    expect(sumOf(bytes)).toBe(0xffff);
  });
});

describe('shared memory', () => {
  it('is zeroed, and one memory where it is mapped twice', () => {
    const { fd, buffer } = addon.createSharedMemory('lb4-test', 8192);
    const first = new Int32Array(buffer);
    const second = new Int32Array(addon.mapSharedMemory(fd));
    addon.closeFd(fd);
    expect(second.length).toBe(2048);
    expect(first.every((word) => word === 0)).toBe(true);
    first[7] = 42;
    second[2047] = 43;
    expect([second[7], first[2047]]).toEqual([42, 43]);
  });

  it('is for nobody else who may look into /proc/PID/fd', () => {
    const { fd } = addon.createSharedMemory('lb4-test', 4096);
    expect(fstatSync(fd).mode & 0o777).toBe(0o600);
    addon.closeFd(fd);
  });

  it('is reached from a worker thread by its descriptor', async () => {
    const { fd, buffer } = addon.createSharedMemory('lb4-test', 4096);
    const worker = new Worker(
      `const { path, fd } = require('node:worker_threads').workerData;
       new Int32Array(require(path).mapSharedMemory(fd))[0] = 7;`,
      { eval: true, workerData: { path, fd } },
    );
    await new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject));
    addon.closeFd(fd);
    expect(new Int32Array(buffer)[0]).toBe(7);
  });

  it('is mapped so that huge pages fit', () => {
    const { fd, buffer } = addon.createSharedMemory('lb4-aligned', 3 << 20);
    addon.closeFd(fd);
    const begins = /^(\S+)-\S+ .*memfd:lb4-aligned/m.exec(readFileSync('/proc/self/maps', 'latin1'))?.[1];
    expect([buffer.byteLength, Number.parseInt(begins ?? '1', 16) % (1 << 21)]).toEqual([3 << 20, 0]);
  });

  it('is mapped so also while other threads map', async () => {
    // Odd sizes, so that what is mapped between two looks of another one stands in its way.
    const program = `const { path, size } = require('node:worker_threads').workerData;
      const { createSharedMemory, closeFd } = require(path);
      const kept = [];
      for (let i = 0; i < 300; i++) {
        const { fd, buffer } = createSharedMemory('lb4-raced', size);
        closeFd(fd);
        kept.push(buffer);
      }
      require('node:worker_threads').parentPort.postMessage(
        require('node:fs').readFileSync('/proc/self/maps', 'latin1').match(/^[0-9a-f]+(?=-.*memfd:lb4-raced)/gm));`;
    const workers = [2, 3, 5, 7].map((size) => new Worker(program, { eval: true, workerData: { path, size: (size << 20) + 4096 } }));
    const maps = await Promise.all(
      workers.map((worker) => new Promise<string[]>((resolve, reject) => worker.once('message', resolve).once('error', reject))),
    );
    const begins = maps.flat();
    expect(begins.length).toBeGreaterThan(300);
    expect(begins.filter((begin) => !/[02468ace]0{5}$/.test(begin))).toEqual([]);
  });

  it('names the system call that failed', () => {
    expect(() => addon.mapSharedMemory(99999)).toThrow(
      expect.objectContaining({ code: 'EBADF', errno: 9, syscall: 'fcntl', message: expect.stringContaining('fcntl(') }),
    );
    expect(() => addon.closeFd(99999)).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'close' }));
  });
});

describe('wrong arguments end in an error, never in an abort', () => {
  it.each(['arguments', 'memory', 'descriptors'] as const)('%s', async (what) => {
    await expectNoAbort(what);
  });
});

describe('confine', () => {
  it('begins nothing anew where a title stands in the place of the command line', () => {
    const script = 'try { require(process.argv[1]).confine([], []); } catch ({ message }) { console.log(message); }';
    const env = { ...process.env, NODE_OPTIONS: '--title=x' };
    const said = execFileSync(process.execPath, ['-e', script, path], {
      env,
      encoding: 'utf8',
      timeout: 60_000,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    expect(said).toMatch(/which a title has replaced/);
  });
});

describe('RouteSocket, unprivileged', () => {
  it('finds the loopback route and interface, whether addresses are signed or not', () => {
    const socket = new addon.RouteSocket();
    const address = new Int32Array(Uint8Array.of(127, 0, 0, 200).buffer)[0];
    const route = socket.route(address, 0, 0, 0);
    expect(route).toMatchObject({ local: true, neighbour: address });
    expect(socket.route(address >>> 0, 0, 0, 0)).toEqual(route);
    expect(socket.interfaces().find((link) => link.index === route.ifindex)).toMatchObject({ name: 'lo' });
    socket.close();
    socket.close();
    expect(() => socket.interfaces()).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });

  it('watches on many sockets, closed or abandoned, without a crash', () => {
    for (let i = 0; i < 50; i++) {
      const socket = new addon.RouteSocket();
      socket.watch(() => {});
      socket.watch(() => {});
      if (i % 2) socket.close();
    }
  });

  it('leaves a terminated worker that still watches', async () => {
    const worker = new Worker(
      `const addon = require(require('node:worker_threads').workerData);
       const socket = new addon.RouteSocket();
       socket.watch(() => {});
       require('node:worker_threads').parentPort.postMessage('ready');
       setInterval(() => socket.interfaces(), 1);`,
      { eval: true, workerData: path },
    );
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    expect(await worker.terminate()).toBe(1);
  });
});
