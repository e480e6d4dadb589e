/**
 * The addon on a real kernel: a client and a balancer's namespace joined by a veth pair. Each test's body runs in a
 * child process inside the balancer's namespace, since a process cannot change the namespace of its threads.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { assemble, DESTINATION, LOAD_WORD, NETWORK, op, RETURN, skipIf } from '../../src/io/bpf.ts';
import { mtuProbe } from '../../src/io/mtu-probe.ts';
import type { NativeAddon } from '../../src/io/native.ts';
import { steeringProgram } from '../../src/io/steering.ts';
import * as layout from '../../src/layout/frames.ts';
import { workerOfFrame } from '../../src/packet/steering.ts';
import { PYTHON } from '../lab/processes.ts';
import { steered } from '../lab/steered.ts';
import { ICMP, ipv4, UDP } from '../lab/wire.ts';
import { expectNoAbort } from '../lab/wrong-arguments.ts';

const path = createRequire(import.meta.url).resolve('../../build/Release/lb4.node');
const CLIENT = `lb4n-c-${process.pid}`;
const BALANCER = `lb4n-b-${process.pid}`;

const sh = (command: string): string => execFileSync('sh', ['-ec', command], { encoding: 'utf8' });
// Not `ip netns exec`: it remounts /sys.
const inside = (namespace: string): string[] => ['nsenter', `--net=/run/netns/${namespace}`];
const children = new Set<ChildProcess>();

function start(namespace: string, ...command: string[]): ChildProcess {
  const [program, ...args] = [...inside(namespace), ...command];
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, LB4_CLIENT: CLIENT } });
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

interface Kit {
  addon: NativeAddon;
  path: string;
  /** Accepts everything, whole. */
  all: Uint32Array;
  /** Network bytes as a native load. */
  ip(text: string): number;
  /** Runs a shell command, in this or in the client's namespace. */
  sh(command: string): string;
  client(command: string): string;
  python: string;
}

/** Of the descriptors, in the program that a body is part of. */
declare const HEADER: number;
declare const STRIDE: number;

/** Runs `body` in the balancer's namespace; its text is all that crosses, and `data` as JSON, so it may only use these, `kit`, node and `require`. */
async function balancer<T, D>(body: (kit: Kit, data: D) => Promise<T> | T, data?: D): Promise<T> {
  const program = `
    const HEADER = ${layout.HEADER}, STRIDE = ${layout.STRIDE};
    const { execFileSync } = require('node:child_process');
    const sh = (command) => execFileSync('sh', ['-ec', command], { encoding: 'utf8' });
    const kit = { addon: require(${JSON.stringify(path)}), path: ${JSON.stringify(path)}, all: Uint32Array.of(6, 0x40000),
      ip: (text) => new Int32Array(Uint8Array.from(text.split('.'), Number).buffer)[0], sh,
      client: (command) => execFileSync('${inside(CLIENT)[0]}', ['${inside(CLIENT)[1]}', 'sh', '-ec', command], { encoding: 'utf8' }),
      python: ${JSON.stringify(PYTHON)} };
    (async () => (${body.toString()})(kit, ${JSON.stringify(data)}))().then(
      (value) => { process.stdout.write('RESULT' + JSON.stringify(value ?? null)); },
      (error) => { console.error(error); process.exitCode = 1; });`;
  const child = start(BALANCER, process.execPath, '--expose-gc', '-e', program);
  let output = '';
  child.stdout?.setEncoding('utf8').on('data', (text) => (output += text));
  const code = await new Promise((resolve) => child.once('close', resolve));
  expect(code).toBe(0);
  return JSON.parse(output.slice(output.lastIndexOf('RESULT') + 6)) as T;
}

beforeAll(() => {
  sh(`
    ip netns add ${CLIENT}; ip netns add ${BALANCER}
    ip -n ${CLIENT} link add v0 type veth peer name v1 netns ${BALANCER}
    ip -n ${CLIENT} address add 10.99.0.1/24 dev v0; ip -n ${BALANCER} address add 10.99.0.2/24 dev v1
    for name in ${CLIENT} ${BALANCER}; do ip -n $name link set lo up; done
    ip -n ${CLIENT} link set v0 up; ip -n ${BALANCER} link set v1 up
    ip -n ${CLIENT} link set v0 address 02:00:00:00:00:01; ip -n ${BALANCER} link set v1 address 02:00:00:00:00:02
    ip -n ${BALANCER} neighbour replace 10.99.0.9 lladdr 02:00:00:00:00:09 dev v1 nud permanent
    ip -n ${BALANCER} route add 10.98.0.0/16 via 10.99.0.1 mtu 1400 src 10.99.0.2
    ip -n ${BALANCER} route add unreachable 10.97.0.0/16; ip -n ${BALANCER} route add blackhole 10.96.0.0/16
    ip -n ${BALANCER} route add 10.95.0.0/16 encap ip id 5 dst 10.99.0.9 via 10.99.0.1
    ${inside(CLIENT).join(' ')} ping -c 1 -w 45 10.99.0.2 >/dev/null
  `);
});

afterAll(() => {
  for (const child of children) child.kill('SIGKILL');
  for (const name of [CLIENT, BALANCER]) {
    try {
      sh(`ip netns delete ${name}`);
    } catch {
      // was never made
    }
  }
});

describe('PacketSocket', () => {
  it('receives a ping described as frames.ts says', async () => {
    const seen = await balancer(({ addon, all, client }) => {
      const socket = new addon.PacketSocket({ slots: 40, filter: all });
      const frames = new Int32Array(HEADER + 64 * STRIDE);
      client('ping -c 1 -W 2 -s 56 10.99.0.2');
      const count = socket.receive(frames, 1000);
      const [offset, length, , flags, out] = frames.subarray(HEADER);
      const link = addon.RouteSocket && new addon.RouteSocket().interfaces().find((each) => each.name === 'v1');
      const clock = Number(process.hrtime.bigint() / 1000000n) | 0;
      const result = {
        count,
        length,
        flags,
        out,
        aligned: offset % 4,
        slots: socket.slab.byteLength / socket.slotBytes,
        lag: clock - frames[0],
        ours: frames[HEADER + 2] === link?.index,
        mac: [...new Uint8Array(socket.slab, offset - 14, 14)],
        ip: [...new Uint8Array(socket.slab, offset + 12, 8)],
      };
      socket.close();
      return result;
    });
    expect(seen).toMatchObject({
      count: 1,
      length: 84,
      flags: 0,
      out: 0,
      aligned: 0,
      slots: 64,
      ours: true,
      mac: [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0],
      ip: [10, 99, 0, 1, 10, 99, 0, 2],
    });
    expect(seen.lag).toBeGreaterThanOrEqual(0);
    // Of another clock it would be days.
    expect(seen.lag).toBeLessThan(60_000);
  });

  it("as a frontend's witness counts what its ring, which nobody reads, has no room for", async () => {
    const heard = await balancer(
      async ({ client, python }, { module, datagrams }) => {
        const { witnessOf } = require(module) as typeof import('../../src/service/witness.ts');
        const witness = witnessOf({ ip: '10.99.0.2', port: 4711, protocol: { name: 'udp', number: 17 } });
        client(
          `${python} -c "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); [s.sendto(b'x', ('10.99.0.2', port)) for _ in range(${datagrams}) for port in (4711, 4712)]"`,
        );
        let count = witness.heard();
        for (let i = 0; i < 200 && count < datagrams; i++) {
          await new Promise((resolve) => setTimeout(resolve, 10));
          count = witness.heard();
        }
        witness.close();
        return count;
      },
      { module: fileURLToPath(new URL('../../dist/src/service/witness.js', import.meta.url)), datagrams: 300 },
    );
    expect(heard).toBe(300);
  });

  it('receives a TCP super-packet whole, partial checksum and all', async () => {
    const server = start(BALANCER, 'iperf3', '-s', '-1', '-p', '5301', '--forceflush');
    await new Promise((resolve) => server.stdout?.on('data', resolve));
    const seen = await balancer(async ({ addon, all }) => {
      const socket = new addon.PacketSocket({ slots: 256, filter: all });
      const frames = new Int32Array(HEADER + 64 * STRIDE);
      const { spawn } = require('node:child_process') as typeof import('node:child_process');
      const namespace = process.env.LB4_CLIENT as string;
      const run = spawn('nsenter', [`--net=/run/netns/${namespace}`, 'iperf3', '-c', '10.99.0.2', '-p', '5301', '-t', '1'], {
        stdio: 'ignore',
      });
      let done = false;
      run.once('exit', () => (done = true));
      const result = { largest: 0, flags: 0, gso: 0, cut: 0, wrongTotal: 0, frames: 0 };
      while (!done) {
        const count = socket.receive(frames, 50);
        for (let i = 0, at = HEADER; i < count; i++, at += STRIDE) {
          const ip = new Uint8Array(socket.slab, frames[at], 20);
          if (((ip[2] << 8) | ip[3]) !== frames[at + 1]) result.wrongTotal++;
          if (frames[at + 3] & 4) result.cut++;
          if (frames[at + 1] > result.largest) {
            result.largest = frames[at + 1];
            result.flags = frames[at + 3] & 0xffff;
            result.gso = frames[at + 3] >>> 16;
          }
          result.frames++;
        }
        socket.transmit(frames, count);
        await new Promise((resolve) => setImmediate(resolve));
      }
      socket.close();
      return result;
    });
    server.kill();
    expect(seen).toMatchObject({ flags: 3, gso: 1448, cut: 0, wrongTotal: 0 });
    expect(seen.largest).toBeGreaterThan(20000);
  });

  it('sends frames back out in order, refuses bad ones alone, and routes', async () => {
    const seen = await balancer(async ({ addon, client, ip }) => {
      const { spawn } = require('node:child_process') as typeof import('node:child_process');
      const namespace = process.env.LB4_CLIENT as string;
      // Whoever listens in the client's namespace: prints what arrives on UDP port 7000.
      const listener = spawn(
        'nsenter',
        [
          `--net=/run/netns/${namespace}`,
          process.execPath,
          '-e',
          `const s = require('node:dgram').createSocket('udp4'); s.on('message', (m) => process.stdout.write(m + ' ')).bind(7000);
         s.on('listening', () => process.stdout.write('up '));`,
        ],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      );
      let heard = '';
      listener.stdout.setEncoding('utf8').on('data', (text) => (heard += text));
      const until = async (test: () => boolean) => {
        for (let i = 0; i < 3000 && !test(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
      };
      await until(() => heard !== '');
      // ip dst 10.99.0.2 and udp dst port 7001 only: BPF as tcpdump -dd writes it, offsets from the Ethernet header.
      const filter = Uint32Array.of(
        0x28,
        12,
        0x15 | (5 << 24),
        0x800,
        0x30,
        23,
        0x15 | (3 << 24),
        17,
        0x28,
        36,
        0x15 | (1 << 24),
        7001,
        6,
        0x40000,
        6,
        0,
      );
      const socket = new addon.PacketSocket({ slots: 64, filter });
      client(`${process.execPath} -e "const s = require('node:dgram').createSocket('udp4'); (async () => {
        for (let i = 0; i < 8; i++) await new Promise((done) => s.send('m' + i, 7001, '10.99.0.2', done)); s.close(); })()"`);
      const frames = new Int32Array(HEADER + 64 * STRIDE);
      const count = socket.receive(frames, 1000);
      const flags = frames[HEADER + 3];
      for (let i = 0, at = HEADER; i < count; i++, at += STRIDE) {
        const frame = new Uint8Array(socket.slab, frames[at] - 14, frames[at + 1] + 14);
        const view = new DataView(socket.slab, frames[at], frames[at + 1]);
        frame.copyWithin(0, 6, 12);
        frame.set([2, 0, 0, 0, 0, 2], 6);
        // Swap the addresses (sums stay), and aim at port 7000; not covered by a partial sum, one more by a full one.
        const source = view.getInt32(12);
        view.setInt32(12, view.getInt32(16));
        view.setInt32(16, source);
        view.setUint16(22, 7000);
        if (!(frames[at + 3] & 1)) view.setUint16(26, 0);
        frames[at + 4] = 1;
      }
      frames[HEADER + 2 * STRIDE + 2] = 12345; // no such interface
      frames[HEADER + 3 * STRIDE] += 1 << 20; // another frame's slot
      frames[HEADER + 4 * STRIDE + 4] = 0;
      frames[HEADER + 5 * STRIDE + 4] = 2;
      frames[HEADER + 6 * STRIDE + 1] = -1;
      const taken = socket.transmit(frames, count);
      const out = Array.from({ length: count }, (_, i) => frames[HEADER + i * STRIDE + 4]);
      await until(() => heard.split(' ').length > 5);
      listener.kill();
      const idle = socket.receive(frames, 0);
      let refused = '';
      try {
        socket.transmit(frames, 1);
      } catch (error) {
        refused = (error as Error).name;
      }
      socket.close();
      return { count, flags, taken, out, heard: heard.trim().split(' '), idle, refused, ip: ip('1.0.0.0') };
    });
    expect(seen).toMatchObject({ count: 8, taken: 4, idle: 0, refused: 'TypeError', ip: 1 });
    expect(seen.out).toEqual([1, 1, -6, -22, 0, 2, -22, 1]);
    // Routed ones leave first; their partial checksum was finished, or the client would have dropped them.
    expect(seen.heard).toEqual(['up', 'm5', 'm0', 'm1', 'm7']);
    expect(seen.flags & 1).toBe(1);
  });

  it('wakes a receive without end from another thread, and one that comes later', async () => {
    const seen = await balancer(async ({ addon, path }) => {
      const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
      const worker = new Worker(
        `const HEADER = ${HEADER}, STRIDE = ${STRIDE};
         const { parentPort, workerData } = require('node:worker_threads');
         const addon = require(workerData);
         const socket = new addon.PacketSocket({ slots: 32, filter: Uint32Array.of(6, 0) });
         parentPort.postMessage(socket.wakeFd);
         const frames = new Int32Array(HEADER + STRIDE);
         const counts = [socket.receive(frames, -1), socket.receive(frames, -1)];
         socket.close();
         parentPort.postMessage(counts);`,
        { eval: true, workerData: path },
      );
      const next = () => new Promise<never>((resolve, reject) => worker.once('message', resolve).once('error', reject));
      const fd = await next();
      await new Promise((resolve) => setTimeout(resolve, 50));
      addon.wake(fd);
      await new Promise((resolve) => setTimeout(resolve, 50));
      addon.wake(fd);
      return next();
    });
    expect(seen).toEqual([0, 0]);
  });

  it('filters, counts what it took and what it lost, and keeps to its timeout', async () => {
    const seen = await balancer(({ addon, all, client }) => {
      const socket = new addon.PacketSocket({ slots: 32, filter: Uint32Array.of(6, 0) });
      const frames = new Int32Array(HEADER + 64 * STRIDE);
      client('ping -c 2 -i 0.01 10.99.0.2');
      const filtered = { count: socket.receive(frames, 20), ...socket.statistics() };
      socket.setFilter(all);
      client('ping -q -c 50 -i 0.002 10.99.0.2');
      const full = socket.statistics();
      const counts = [socket.receive(frames, 0)];
      socket.transmit(frames, 0);
      counts.push(socket.receive(frames, 0));
      const before = performance.now();
      socket.receive(frames, 100);
      const waited = performance.now() - before;
      socket.close();
      return { filtered, full, counts, waited };
    });
    expect(seen.filtered).toEqual({ count: 0, received: 0, dropped: 0 });
    expect(seen.full).toEqual({ received: 32, dropped: 18 });
    expect(seen.counts).toEqual([32, 0]);
    expect(seen.waited).toBeGreaterThan(95);
  });

  it('closes twice without harm, detaches its slab, and leaks nothing', async () => {
    const seen = await balancer(({ addon, all }) => {
      const { readdirSync, readFileSync } = require('node:fs') as typeof import('node:fs');
      const fds = () => readdirSync('/proc/self/fd').length;
      const sockets = () => readFileSync('/proc/self/net/packet', 'utf8').trim().split('\n').length - 1;
      const before = fds();
      let slab = new ArrayBuffer(0);
      for (let i = 0; i < 200; i++) {
        const socket = new addon.PacketSocket({ slots: 32, filter: all });
        const routes = new addon.RouteSocket();
        routes.watch(() => {});
        slab = socket.slab;
        socket.close();
        socket.close();
        routes.close();
        routes.close();
        if (i === 199) {
          try {
            socket.receive(new Int32Array(16), 0);
          } catch (error) {
            return { leaked: fds() - before, sockets: sockets(), slab: slab.byteLength, code: (error as NodeJS.ErrnoException).code };
          }
        }
      }
      return undefined;
    });
    expect(seen).toEqual({ leaked: 0, sockets: 0, slab: 0, code: 'EBADF' });
  });

  it('keeps the slab of a collected socket readable, then gives it back', async () => {
    const seen = await balancer(async ({ addon, all }) => {
      const { readFileSync } = require('node:fs') as typeof import('node:fs');
      const sockets = () => readFileSync('/proc/self/net/packet', 'utf8').trim().split('\n').length - 1;
      const collect = async () => {
        for (let i = 0; i < 20; i++) {
          (globalThis as unknown as { gc(): void }).gc();
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      };
      let slab: ArrayBuffer | undefined = (() => new addon.PacketSocket({ slots: 32, filter: all }).slab)();
      await collect();
      const readable = new Uint8Array(slab)[0];
      const during = sockets();
      slab = undefined;
      await collect();
      return { readable, during, after: sockets() };
    });
    expect(seen).toEqual({ readable: 0, during: 1, after: 0 });
  });

  it.each(['arguments', 'memory', 'descriptors'] as const)('ends in an error, never in an abort: wrong %s', async (what) => {
    await expectNoAbort(what, inside(BALANCER));
  });

  it('reports a missing privilege by name', async () => {
    const seen = await balancer(({ path, sh }) =>
      sh(`setpriv --bounding-set=-net_raw --inh-caps=-net_raw --securebits=+noroot ${process.execPath} -e "
        try { new (require('${path}').PacketSocket)({ slots: 32, filter: Uint32Array.of(6, 0) }) }
        catch (e) { console.log([e.code, e.errno, e.syscall, e.message].join('|')) }"`).trim(),
    );
    expect(seen).toBe('EPERM|1|socket|socket(AF_PACKET): Operation not permitted');
  });
});

describe('fanOut', () => {
  it('gives each packet whole and in order to the socket that workerOfFrame names, and to no other', async () => {
    const WORKERS = 3;
    const KEY = 0x9e3779b9;
    const VIP = '192.0.2.1';
    const packets = [0, 1, 2, 3].flatMap((round) => steered(round, '02:00:00:00:00:02', VIP));
    const expected = Array.from({ length: WORKERS }, (): number[][] => []);
    for (const { id, ip } of packets) {
      const words = new Int32Array(Math.ceil(ip.length / 4));
      new Uint8Array(words.buffer).set(ip);
      expected[workerOfFrame(words, 0, ip.length, KEY, WORKERS)].push([id, ip.length]);
    }
    const toVip = [op(LOAD_WORD, NETWORK + DESTINATION), ...skipIf([0xc0000201]), op(RETURN, 0), op(RETURN, 0x40000)];
    const data = {
      program: [...steeringProgram(KEY, WORKERS)],
      filter: [...assemble(toVip)],
      workers: WORKERS,
      packets: packets.length,
      frames: packets.flatMap(({ frames }) => frames.map((frame) => Buffer.from(frame).toString('hex'))).join('\n'),
    };
    const seen = await balancer(async ({ addon, client, python }, { program, filter, workers, packets: sent, frames: lines }) => {
      // Room for all that any of them gets; the kernel keeps more than that for a processor (net.core.netdev_max_backlog).
      const sockets = Array.from({ length: workers }, () => new addon.PacketSocket({ slots: 128, filter: Uint32Array.of(6, 0) }));
      addon.fanOut(
        sockets.map(({ fd }) => fd),
        Uint32Array.from(program),
      );
      for (const socket of sockets) socket.setFilter(Uint32Array.from(filter));
      const frames = new Int32Array(HEADER + 64 * STRIDE);
      const heard = sockets.map((): number[][] => []);
      const listen = () => {
        let count = 0;
        for (const [worker, socket] of sockets.entries()) {
          const batch = socket.receive(frames, 0);
          for (let i = 0, at = HEADER; i < batch; i++, at += STRIDE)
            heard[worker].push([new DataView(socket.slab, frames[at]).getUint16(4), frames[at + 1]]);
          socket.transmit(frames, 0);
          count += batch;
        }
        return count;
      };
      // From one processor: two would overtake each other.
      const send = () =>
        client(`${python} -c '
import os, socket, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
wire.bind(("v0", 0))
for line in sys.stdin: wire.send(bytes.fromhex(line))' <<END
${lines}
END`);
      const hear = async (count: number) => {
        send();
        let missing = count;
        for (let looks = 0; missing > 0 && looks < 2000; looks++) {
          missing -= listen();
          if (missing > 0) await new Promise((resolve) => setTimeout(resolve, 5));
        }
        return heard.map((of) => of.splice(0));
      };
      const all = await hear(sent);
      // One that has stopped keeps its place, by the duplicate that fanOut has made: nobody hears its packets, and the others theirs alone.
      sockets.shift()?.close();
      heard.shift();
      const others = await hear(sent - all[0].length);
      for (const socket of sockets) socket.close();
      return { all, others };
    }, data);
    expect(seen).toEqual({ all: expected, others: expected.slice(1) });
    expect(Math.min(...expected.map(({ length }) => length))).toBeGreaterThan(20);
    expect(Math.max(...expected.map(({ length }) => length))).toBeLessThanOrEqual(128);
  });
});

describe('RouteSocket', () => {
  it('answers as `ip route get` does', async () => {
    const seen = await balancer(({ addon, ip }) => {
      const socket = new addon.RouteSocket();
      const index = socket.interfaces().find((each) => each.name === 'v1')?.index;
      const ask = (text: string, source = 0) => {
        const { ifindex, ...rest } = socket.route(ip(text), source, 0, 0);
        return { ...rest, onVeth: ifindex === index, ifindex: ifindex === 0 ? 0 : 1 };
      };
      return {
        here: ip('10.99.0.2'),
        client: ip('10.99.0.1'),
        other: ip('10.99.0.7'),
        link: ask('10.99.0.7'),
        gateway: ask('10.98.1.1', ip('10.99.0.2')),
        self: ask('10.99.0.2'),
        none: ask('192.0.2.1'),
        unreachable: ask('10.97.0.1'),
        blackhole: ask('10.96.0.1'),
        wrapped: ask('10.95.0.1').encapsulated,
      };
    });
    expect(seen.link).toEqual({
      kind: 'unicast',
      onVeth: true,
      ifindex: 1,
      neighbour: seen.other,
      source: seen.here,
      mtu: 1500,
      ownMtu: 1500,
      local: false,
      encapsulated: false,
    });
    expect(seen.gateway).toEqual({
      kind: 'unicast',
      onVeth: true,
      ifindex: 1,
      neighbour: seen.client,
      source: seen.here,
      mtu: 1400,
      ownMtu: 1400,
      local: false,
      encapsulated: false,
    });
    expect(seen.wrapped).toBe(true);
    expect(seen.self).toMatchObject({ local: true, neighbour: seen.here });
    expect([seen.none, seen.unreachable, seen.blackhole].map((route) => route.ifindex)).toEqual([0, 0, 0]);
  });

  it('tells what a forged error has made the kernel believe from the MTU of the route itself, and a packet of our own as large leaves all the same', async () => {
    // About a socket of this host that is bound and not connected: the kernel looks at addresses and ports alone.
    const forged = (destination: string) => {
      const payload = ipv4({ source: '10.99.0.2', sourcePort: 4999, destination, destinationPort: 1, protocol: UDP }).subarray(0, 28);
      return [...ipv4({ source: '10.99.0.1', destination: '10.99.0.2', protocol: ICMP, type: 3, code: 4, rest: 600, payload })];
    };
    const large = [...mtuProbe({ source: '10.99.0.2', server: '10.99.0.1', port: 1 }, 1500)];
    const seen = await balancer(
      async ({ addon, ip }, { errors, large }) => {
        const { createSocket } = require('node:dgram') as typeof import('node:dgram');
        const victim = createSocket('udp4');
        await new Promise<void>((resolve) => victim.bind(4999, '10.99.0.2', resolve));
        for (const error of errors) addon.sendPackets(new Uint8Array(error).buffer, error.length);
        const socket = new addon.RouteSocket();
        const mtus = ['10.99.0.1', '10.98.1.1'].map((to) => {
          const { mtu, ownMtu } = socket.route(ip(to), ip('10.99.0.2'), 1, 17);
          return [mtu, ownMtu];
        });
        const sent = addon.sendPackets(new Uint8Array(large).buffer, large.length);
        victim.close();
        return { mtus, sent };
      },
      { errors: ['10.99.0.1', '10.98.1.1'].map(forged), large },
    );
    expect(seen).toEqual({
      mtus: [
        [600, 1500],
        [600, 1400],
      ],
      sent: 1,
    });
  });

  it('understands every answer: kinds of routes, gateways of both families, rules by source, protocol and port, several next hops, nexthop objects', async () => {
    const seen = await balancer(({ addon, ip, sh }) => {
      sh(`ip address add 10.99.0.3/32 dev v1
        ip -6 address add fd00::2/64 dev v1 nodad; ip -6 neighbour replace fd00::9 lladdr 02:00:00:00:00:06 dev v1 nud permanent
        ip neighbour replace 10.99.0.8 lladdr 02:00:00:00:00:08 dev v1 nud noarp
        ip link add v2 type veth peer name v3; ip address add 10.94.0.2/24 dev v2; ip link set v3 up; ip link set v2 up
        ip route add prohibit 10.95.0.1; ip route add throw 10.95.0.2
        ip route add 10.95.0.3 via inet6 fd00::9 dev v1 mtu 1300
        ip route add 10.95.0.4 via 10.90.0.1 dev v1 onlink
        ip route add 10.95.0.5 nexthop via 10.94.0.1 dev v2 nexthop via 10.99.0.1 dev v1
        ip nexthop add id 7 via 10.99.0.1 dev v1; ip route add 10.95.0.6 nhid 7
        ip nexthop add id 8 blackhole; ip route add 10.95.0.7 nhid 8
        ip route add 10.95.0.8 via 10.99.0.1; ip route add 10.95.0.8 via 10.94.0.1 table 101; ip rule add from 10.99.0.3 lookup 101
        ip rule add ipproto tcp dport 80 lookup 101`);
      const socket = new addon.RouteSocket();
      const names = new Map(socket.interfaces().map(({ index, name }) => [index, name]));
      const index = [...names].find(([, name]) => name === 'v1')?.[0] ?? 0;
      const text = (address: number | Uint8Array) =>
        typeof address === 'number'
          ? [address & 255, (address >> 8) & 255, (address >> 16) & 255, address >>> 24].join('.')
          : Buffer.from(address).toString('hex');
      const ask = (destination: string, source = '10.99.0.2', port = 0, protocol = port === 0 ? 0 : 6) => {
        const { kind, ifindex, neighbour, mtu } = socket.route(ip(destination), ip(source), port, protocol);
        return [kind, ...(ifindex === 0 ? [] : [names.get(ifindex), text(neighbour), mtu])].join(' ');
      };
      const links = ['10.95.0.5', '10.95.0.6', '10.96.0.1', '192.0.2.1'].map((destination) =>
        socket
          .links(ip(destination), ip('10.99.0.2'), 80, 17)
          .map((link) => names.get(link))
          .join(' '),
      );
      sh('ip link set v2 down');
      const several = ask('10.95.0.5');
      sh('ip link set v2 up; ip route replace 10.95.0.8 via 10.94.0.1 table 101');
      const six = Uint8Array.from([0xfd, ...Array.from({ length: 14 }, () => 0), 9]);
      const answers = {
        links,
        several,
        prohibit: ask('10.95.0.1'),
        throw: ask('10.95.0.2'),
        via6: ask('10.95.0.3'),
        onlink: ask('10.95.0.4'),
        object: ask('10.95.0.6'),
        blackholeObject: ask('10.95.0.7'),
        one: ask('10.95.0.8'),
        two: ask('10.95.0.8', '10.99.0.3'),
        port: ask('10.95.0.8', '10.99.0.2', 80),
        otherPort: ask('10.95.0.8', '10.99.0.2', 81),
        otherProtocol: ask('10.95.0.8', '10.99.0.2', 80, 17),
        blackhole: ask('10.96.0.1'),
        unreachable: ask('10.97.0.1'),
        none: ask('192.0.2.1'),
        self: ask('10.99.0.2'),
        broadcast: ask('10.99.0.255'),
        multicast: ask('224.0.0.9').split(' ')[0],
        stranger: ask('10.95.0.8', '198.51.100.1'),
        strangerBlackhole: ask('10.96.0.1', '198.51.100.1'),
        neighbour6: [...(socket.neighbour(index, six) ?? [])].at(-1),
        noarp: [...(socket.neighbour(index, ip('10.99.0.8')) ?? [])].at(-1),
      };
      sh(
        'ip rule del from 10.99.0.3 lookup 101; ip rule del ipproto tcp dport 80 lookup 101; ip link del v2; ip address del 10.99.0.3/32 dev v1',
      );
      return answers;
    });
    expect(seen).toEqual({
      links: ['v2 v1', 'v1', '', ''],
      several: 'unicast v1 10.99.0.1 1500',
      prohibit: 'prohibit',
      throw: 'none',
      via6: 'unicast v1 fd000000000000000000000000000009 1300',
      onlink: 'unicast v1 10.90.0.1 1500',
      object: 'unicast v1 10.99.0.1 1500',
      blackholeObject: 'blackhole',
      one: 'unicast v1 10.99.0.1 1500',
      two: 'unicast v2 10.94.0.1 1500',
      port: 'unicast v2 10.94.0.1 1500',
      otherPort: 'unicast v1 10.99.0.1 1500',
      otherProtocol: 'unicast v1 10.99.0.1 1500',
      blackhole: 'blackhole',
      unreachable: 'unreachable',
      none: 'none',
      self: 'local lo 10.99.0.2 65536',
      broadcast: 'broadcast v1 10.99.0.255 1500',
      multicast: 'multicast',
      stranger: 'source',
      strangerBlackhole: 'source',
      neighbour6: 6,
      noarp: 8,
    });
  });

  it('knows neighbours and interfaces', async () => {
    const seen = await balancer(({ addon, ip, sh }) => {
      const socket = new addon.RouteSocket();
      const links = socket.interfaces().map((each) => ({ ...each, mac: [...each.mac] }));
      const index = links.find((each) => each.name === 'v1')?.index ?? 0;
      const mac = (text: string) => [...(socket.neighbour(index, ip(text)) ?? [])];
      sh('ip neighbour replace 10.99.0.76 nud failed dev v1');
      const silent = ['10.99.0.76', '10.99.0.77', '10.99.0.9'].map((text) => socket.isSilent(index, ip(text)));
      socket.solicit(index, ip('10.99.0.9'));
      socket.solicit(index, ip('10.99.0.78'));
      const solicited = sh('ip neighbour show dev v1');
      return {
        silent,
        solicited,
        links,
        permanent: mac('10.99.0.9'),
        learnt: mac('10.99.0.1'),
        unknown: socket.neighbour(index, ip('10.99.0.77')) ?? null,
      };
    });
    expect(seen.silent).toEqual([true, false, false]);
    expect(seen.solicited).toMatch(/10\.99\.0\.9 .*PERMANENT/);
    expect(seen.solicited).toMatch(/10\.99\.0\.78 .*INCOMPLETE/);
    expect(seen.permanent).toEqual([2, 0, 0, 0, 0, 9]);
    expect(seen.learnt).toEqual([2, 0, 0, 0, 0, 1]);
    expect(seen.unknown).toBeNull();
    expect(seen.links).toContainEqual(expect.objectContaining({ name: 'v1', mtu: 1500, up: true, mac: [2, 0, 0, 0, 0, 2] }));
    expect(seen.links).toContainEqual(expect.objectContaining({ name: 'lo', mac: [0, 0, 0, 0, 0, 0] }));
  });

  it('tells of changes, many at once as one, and keeps no process alive', async () => {
    const seen = await balancer(async ({ addon, sh }) => {
      const socket = new addon.RouteSocket();
      let calls = 0;
      socket.watch(() => calls++);
      const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
      let quiet: number;
      // What the kernel still had to say of links that were made a moment ago.
      for (let looks = 0; ; looks++) {
        quiet = calls;
        await pause(50);
        quiet = calls - quiet;
        if (quiet === 0 || looks === 100) break;
      }
      calls = 0;
      sh('for i in $(seq 1 40); do echo "route add 10.50.$i.0/24 dev v1"; done | ip -batch -');
      for (let looks = 0; calls === 0 && looks < 400; looks++) await pause(50);
      await pause(100);
      return { quiet, calls };
    });
    expect(seen.quiet).toBe(0);
    expect(seen.calls).toBeGreaterThanOrEqual(1);
    expect(seen.calls).toBeLessThan(10);
  });

  it('regression: a notice still queued when the process ends does not abort it', async () => {
    const seen = await balancer(({ path, sh }) => {
      const run = (ending: string) =>
        sh(`timeout 60 ${process.execPath} -e "
        const socket = new (require('${path}').RouteSocket)();
        socket.watch(() => { throw new Error('from changed'); });
        let alive;
        process.on('uncaughtException', (error) => { console.log(error.message); clearTimeout(alive); });
        require('node:child_process').execSync('ip address replace 10.51.0.1/32 dev lo; ip address delete 10.51.0.1/32 dev lo; sleep 0.05');
        ${ending}"; echo $?`).trim();
      return ['', 'socket.close()', 'process.exit()', 'socket.close(); process.exit()', 'alive = setTimeout(() => {}, 45000)'].map(run);
    });
    expect(seen.slice(0, 4).map((text) => text.split('\n').at(-1))).toEqual(['0', '0', '0', '0']);
    expect(seen[1]).toBe('0');
    expect(seen[4]).toMatch(/^from changed\n(.*\n)*0$/);
  });
});
