/**
 * The test runs of bench/encap: nanoseconds of BPF_PROG_TEST_RUN a packet, above those of a frame that is none of the program's business. A packet
 * that is wrapped or unwrapped is another one afterwards, so a call has one run: its figures are for each other, not for those of bench/fastpath, whose
 * calls have many.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { interfacesNow } from '../src/io/interfaces.ts';
import { TCP } from '../src/packet/fields.ts';
import { gueObject } from '../src/rules/gue-object.ts';
import { fromClient } from '../test/fixtures/frames.ts';
import { GUE_PORT, gue } from '../test/lab/gue.ts';
import { KernelPath, moveFront, type Program } from '../test/lab/kernel-path.ts';
import { establish } from '../test/lab/kernel-same.ts';
import { WRAPPED } from '../test/lab/kernel-wrapped.ts';
import type { Namespace } from '../test/lab/lab.ts';
import { buildFrame } from '../test/lab/packets.ts';
import { ACK, ipv4, SYN, UDP } from '../test/lab/wire.ts';
import { HASH_KEY, MAC, World, type WorldOptions } from '../test/lab/world.ts';
import { compile, root } from './measure.ts';

/** Nanoseconds by what is measured. */
export type Runs = Readonly<Record<string, number>>;

const [FLOWS, CALLS, FIRST_PORT] = [1000, 4000, 5000];
const ARP = new Uint8Array(60);
ARP.set([0x08, 0x06], 12);

const WAYS: readonly (readonly [string, WorldOptions])[] = [
  ['nat', { mode: 'passthrough' }],
  ...Object.values(WRAPPED).map(({ name, options }) => [name, options] as const),
];

/** Of the fast path's program, by what it does with a client's segment. In a namespace with an interface `front` whose address is MAC.front. */
export function forwardingRuns(program: Program): Runs {
  const interfaces = new Map([[MAC.front, interfacesNow().find(({ name }) => name === 'front')!.index]]);
  const ways = WAYS.map(([name, options]) => {
    const path = new KernelPath({ program, capacity: 4 * FLOWS, key: HASH_KEY, interfaces });
    const { flows, hops } = path.memory;
    const world = new World({ ...options, capacity: 4 * FLOWS, memory: { flows, hops } });
    const ports = Array.from({ length: FLOWS }, (_, i) => FIRST_PORT + i);
    for (const port of ports) establish([world], TCP, options.mode ?? 'passthrough', port, options.mode !== 'passthrough');
    moveFront(hops, interfaces.get(MAC.front)!);
    const frames = ports.map((port) => buildFrame(fromClient({ from: port, sequence: 101, acknowledgment: 201 })));
    if (frames.some((frame) => path.take(frame) === undefined)) throw new Error(`${program}, ${name}: not all of it is taken`);
    return { name, path, frames, sum: 0, idle: 0 };
  });
  for (let call = 0; call < CALLS; call++) {
    for (const way of ways) {
      way.idle += way.path.duration(ARP);
      way.sum += way.path.duration(way.frames[(call * 619) % FLOWS]);
    }
  }
  for (const { path } of ways) path.close();
  return Object.fromEntries(ways.map(({ name, sum, idle }) => [name, (sum - idle) / CALLS]));
}

/** Where one of a server's connections is, for {@link serverRuns}. */
export interface Ends {
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
}

const [TC_ACT_UNSPEC, TC_ACT_REDIRECT] = [-1, 7];

/** Of the servers' program, in that namespace, by whose the packet inside is. `own` is a connection there; `other` a server next to it. */
export function serverRuns(server: Namespace, address: string, other: string, own: Ends): Runs {
  const object = join(root, 'build/bench/server.bpf.o');
  mkdirSync(dirname(object), { recursive: true });
  writeFileSync(
    object,
    gunzipSync(Buffer.from(gueObject({ server: address, ports: [GUE_PORT], vips: [own.destination], hops: [other] }).text, 'base64')),
  );
  const inner = (flags: number, more: Partial<Ends> = {}) => ipv4({ ...own, flags, sequence: 1, acknowledgment: 1, ...more });
  const tunnel = (packet: Buffer, hops: string[]) => frameOf(server, address, gue(packet, { hops }));
  const frames: readonly (readonly [string, Uint8Array, number])[] = [
    ['idle', ARP, TC_ACT_UNSPEC],
    ['a SYN: taken out', tunnel(inner(SYN), [other]), TC_ACT_UNSPEC],
    ['of a connection here: taken out', tunnel(inner(ACK), [other]), TC_ACT_UNSPEC],
    ['of nobody, the last server: taken out', tunnel(inner(ACK, { sourcePort: 1 }), []), TC_ACT_UNSPEC],
    ['of nobody: to the next server', tunnel(inner(ACK, { sourcePort: 1 }), [other]), TC_ACT_REDIRECT],
  ];
  const input = frames.map(([, frame]) => Buffer.from(frame).toString('hex')).join('\n');
  const command = ['netns', 'exec', server.name, compile('testrun', ['-lbpf']), object, 'lb4_server', 'eth0', `${CALLS}`];
  const lines = execFileSync('ip', command, { input, encoding: 'utf8' }).trim().split('\n');
  const [idle, ...all] = lines.map((line, i) => {
    const [returned, nanoseconds] = line.split(' ').map(Number);
    if (returned !== frames[i]?.[2]) throw new Error(`${frames[i]?.[0]}: the program returned ${returned}`);
    return nanoseconds;
  });
  return Object.fromEntries(all.map((nanoseconds, i) => [frames[i + 1][0], nanoseconds - idle]));
}

function frameOf(server: Namespace, destination: string, payload: Buffer): Uint8Array {
  const mac = Buffer.from(server.mac('eth0').replaceAll(':', ''), 'hex');
  const outer = ipv4({ source: '10.82.0.9', destination, protocol: UDP, sourcePort: 40_000, destinationPort: GUE_PORT, payload });
  return Buffer.concat([mac, mac, Buffer.from([8, 0]), outer]);
}
