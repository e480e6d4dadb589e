/**
 * Runs the packet fixtures by the kernel's fast path, in a network namespace whose interfaces have the fixtures' addresses: each frame is
 * offered to the program first, and only what goes up is the pipeline's. Prints a line of JSON with what happened.
 *
 *     node kernel-rows.js tc|xdp FRONT BACK       names of the interfaces
 */
import { native } from '../../src/io/native.ts';
import * as Flow from '../../src/layout/flow.ts';
import { parseAddress, portsWord } from '../../src/packet/address.ts';
import { TCP, UDP } from '../../src/packet/fields.ts';
import type { Row, Step } from '../fixtures/frames.ts';
import { rows } from '../fixtures/rows.ts';
import { DROPPED, KernelPath, moveFront, type Program } from './kernel-path.ts';
import { buildFrame, type Packet } from './packets.ts';
import { BACK, connectionsIn, HASH_KEY, MAC, World } from './world.ts';

export interface Report {
  /** What came out otherwise than the row says. */
  readonly wrong: string[];
  /** Descriptions of rows of which the program took a frame. */
  readonly taken: string[];
  /** Of which it dropped one, as the pipeline does. */
  readonly dropped: string[];
  /** Plain segments of flows given to the kernel that the program has passed up all the same, and the pipeline has forwarded. */
  readonly established: string[];
}

const [, , program, front, back] = process.argv;
const routes = new (native().RouteSocket)();
const indexOf = (wanted: string) => routes.interfaces().find(({ name }) => name === wanted)!.index;
const interfaces = new Map([
  [MAC.front, indexOf(front)],
  [MAC.back, indexOf(back)],
]);
routes.close();
const LARGEST = 3400;
/** What the program may come to by itself. */
const DROPS = ['denied', 'dropFirstSyn'];
const paths = new Map<number, KernelPath>();
const report: Report = { wrong: [], taken: [], dropped: [], established: [] };

Math.random = () => 0; // the port pools begin at their first port
for (const row of rows) run(row);
process.stdout.write(`${JSON.stringify(report)}\n`);

function run(row: Row): void {
  const path = pathOf(row.world?.capacity ?? 256);
  const { flows, hops, syns } = path.memory;
  flows.fill(0);
  hops.fill(0);
  syns?.fill(0);
  const world = new World({ ...row.world, memory: { flows, hops, syns } });
  for (const [i, step] of row.steps.entries()) {
    step.first?.(world);
    moveFront(world.hops, interfaces.get(MAC.front)!);
    path.ask(world.set);
    const what = `${row.description}, step ${i}`;
    const out = isOffered(step) ? path.take(buildFrame(step.in), 0) : undefined;
    if (out === undefined || out === DROPPED) {
      const isFast = flowOf(world, step) !== undefined;
      const { verdict } = world.send(step.in, step.arrival);
      if (verdict !== step.verdict) report.wrong.push(`${what}: ${verdict} for ${step.verdict}`);
      if (out === DROPPED) report.dropped.push(what);
      if (out === DROPPED && !DROPS.includes(verdict)) report.wrong.push(`${what}: dropped for ${verdict}`);
      if (verdict === 'forwarded' && isOffered(step) && isFast && isPlain(step)) report.established.push(what);
      continue;
    }
    report.taken.push(what);
    if (step.verdict !== 'forwarded' || step.out === undefined || step.routed) {
      report.wrong.push(`${what}: taken for ${step.verdict}`);
      continue;
    }
    const expected = Buffer.from(buildFrame(step.out));
    if (Buffer.compare(Buffer.from(out), expected) !== 0)
      report.wrong.push(`${what}: ${Buffer.from(out).toString('hex')} for ${expected.toString('hex')}`);
  }
}

/** One a size: to load the program takes longer than to run all rows. */
function pathOf(capacity: number): KernelPath {
  let path = paths.get(capacity);
  if (path === undefined)
    paths.set(capacity, (path = new KernelPath({ program: program as Program, capacity, key: HASH_KEY, interfaces })));
  return path;
}

/** A test run makes frames of bytes alone, a page with what the kernel adds: no partial checksums, nothing that was cut off. */
function isOffered({ in: frame, arrival }: Step): boolean {
  return (
    !frame.tcp?.partial &&
    !frame.udp?.partial &&
    frame.gso === undefined &&
    isByItsLink(frame, arrival) &&
    buildFrame(frame).length <= LARGEST
  );
}

/** Whether a frame comes by the interface that it is addressed to: the kernel knows by which one, the fixtures say it. */
function isByItsLink({ ethernet }: Packet, arrival: Step['arrival']): boolean {
  if (arrival === undefined || Object.keys(arrival).length === 0) return true;
  const { interface: link, ...more } = arrival;
  return Object.keys(more).length === 0 && link === BACK && ethernet?.[0] === MAC.back;
}

/** The flow of a frame, if it has been given to the kernel. */
function flowOf(world: World, { in: frame }: Step): number | undefined {
  const slot = connectionsIn(world)
    .flatMap(({ first, second }) => [first, second])
    .find((at) => at !== undefined && isKeyOf(world.table.words, at, frame));
  return slot !== undefined && (world.table.words[slot + Flow.STATE] & Flow.FAST) !== 0 ? slot : undefined;
}

function isKeyOf(words: Int32Array, at: number, { source, destination, tcp, udp }: Packet): boolean {
  const transport = tcp ?? udp;
  if (transport === undefined) return false;
  return (
    ((words[at + Flow.STATE] >>> Flow.PROTOCOL_SHIFT) & 0xff) === (tcp === undefined ? UDP : TCP) &&
    words[at + Flow.SOURCE] === parseAddress(source) &&
    words[at + Flow.DESTINATION] === parseAddress(destination) &&
    words[at + Flow.PORTS] === portsWord(transport.from, transport.to)
  );
}

/** Every datagram is; a computed zero for a checksum is one of the other kind (native/bpf/packet.h). */
function isPlain({ in: { tcp, udp } }: Step): boolean {
  if (udp !== undefined) return udp.checksum !== 0xffff && udp.length === undefined;
  return tcp !== undefined && !/[FSR]/.test(tcp.flags ?? 'A') && (tcp.flags ?? 'A').includes('A');
}
