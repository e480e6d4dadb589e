/**
 * Runs the packet fixtures by the kernel's fast path, in a network namespace whose interfaces have the fixtures' addresses: each frame is
 * offered to the program first, and only what goes up is the pipeline's. Prints a line of JSON with what happened.
 *
 *     node kernel-rows.js tc|xdp FRONT BACK       names of the interfaces
 */
import { native } from '../../src/io/native.ts';
import { type Row, rows, type Step } from '../fixtures/frames.ts';
import { KernelPath, type Program } from './kernel-path.ts';
import { buildFrame } from './packets.ts';
import { HASH_KEY, MAC, World } from './world.ts';

export interface Report {
  /** What came out otherwise than the row says. */
  readonly wrong: string[];
  /** Descriptions of rows of which the program took a frame. */
  readonly taken: string[];
  /** Frames of which the pipeline said `forwarded`, though the program had passed them up. */
  readonly left: string[];
}

const [, , program, front, back] = process.argv;
const routes = new (native().RouteSocket)();
const indexOf = (wanted: string) => routes.interfaces().find(({ name }) => name === wanted)!.index;
const interfaces = new Map([
  [MAC.front, indexOf(front)],
  [MAC.back, indexOf(back)],
]);
routes.close();
const report: Report = { wrong: [], taken: [], left: [] };

Math.random = () => 0; // the port pools begin at their first port
for (const row of rows) run(row);
process.stdout.write(`${JSON.stringify(report)}\n`);

function run(row: Row): void {
  const path = new KernelPath({ program: program as Program, capacity: row.world?.capacity ?? 256, key: HASH_KEY, interfaces });
  const { flows, hops } = path.memory;
  const world = new World({ ...row.world, memory: { flows, hops } });
  for (const [i, step] of row.steps.entries()) {
    step.first?.(world);
    const what = `${row.description}, step ${i}`;
    const out = isOffered(step) ? path.take(buildFrame(step.in), 0) : undefined;
    if (out === undefined) {
      const { verdict } = world.send(step.in, step.arrival);
      if (verdict !== step.verdict) report.wrong.push(`${what}: ${verdict} for ${step.verdict}`);
      if (verdict === 'forwarded' && isOffered(step)) report.left.push(what);
      continue;
    }
    report.taken.push(what);
    if (step.verdict !== 'forwarded' || step.out === undefined || step.routed) {
      report.wrong.push(`${what}: taken for ${step.verdict}`);
      continue;
    }
    const expected = Buffer.from(buildFrame(step.out));
    // The padding of a short frame stays: whoever sends it on pads it anyway.
    if (Buffer.compare(Buffer.from(out.subarray(0, expected.length)), expected) !== 0)
      report.wrong.push(`${what}: ${Buffer.from(out).toString('hex')} for ${expected.toString('hex')}`);
  }
  path.close();
}

/** A test run makes frames of bytes alone: no partial checksums, nothing that was cut off. */
function isOffered({ in: frame, arrival }: Step): boolean {
  return !frame.tcp?.partial && frame.gso === undefined && arrival === undefined;
}
