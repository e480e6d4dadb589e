/** Wrapped flows for the kernel's fast path: what worlds have them (kernel-same.ts), and flows that follow a table of GLB's as it changes. */
import * as Flow from '../../src/layout/flow.ts';
import { parseAddress } from '../../src/packet/address.ts';
import { fromClient } from '../fixtures/frames.ts';
import { KernelPath, type KernelPathOptions } from './kernel-path.ts';
import { buildFrame } from './packets.ts';
import { connectionsIn, World, type WorldOptions } from './world.ts';

export interface Wrapped {
  readonly name: string;
  /** Bytes that the next hop's MTU is less by. */
  readonly bytes: number;
  readonly options: WorldOptions;
}

const states = [
  ['active', 'active'],
  ['draining', 'active'],
  ['active', 'draining'],
] as const;

function gue(name: string, hops: number, options: WorldOptions = {}): Wrapped {
  return {
    name,
    bytes: 36 + 4 * hops,
    options: { mode: 'dsrGue', scheduler: 'glb', tunnel: { port: 19_523, source: 0, hops }, ...options },
  };
}

export const WRAPPED: Readonly<Record<'gue' | 'gue1' | 'gue3' | 'ipip', Wrapped>> = {
  gue: gue('gue', 0, { scheduler: 'maglev' }),
  gue1: gue('gue, a hop more', 1),
  gue3: gue('gue, three hops more', 3, { altHashFields: ['source_port'] }),
  ipip: {
    name: 'ipip',
    bytes: 20,
    options: { mode: 'dsrIpip', scheduler: 'maglev', tunnel: { port: 0, source: parseAddress('172.16.0.9') } },
  },
};

/**
 * With each change of the table: what the program has goes up once, and then, written anew by the pipeline, out as that says. So does a flow of which
 * nobody knows by which table it went. Returns what is wrong.
 */
export function tableChanges(path: KernelPath, world: World): string[] {
  const frame = buildFrame(fromClient({ from: 5000, sequence: 101, acknowledgment: 201 }));
  const wrong: string[] = [];
  const seen = new Set<string>();
  const look = (what: string) => {
    if (path.take(frame) !== undefined) wrong.push(`${what}: taken by the table before`);
    const expected = Buffer.from(world.sendFrames([{ frame }])[0].frame).toString('hex');
    const out = path.take(frame);
    const got = out === undefined ? 'up' : Buffer.from(out).toString('hex');
    if (got !== expected) wrong.push(`${what}: ${got}, not ${expected}`);
    seen.add(expected);
  };
  for (const [i, state] of [...states, ...states].entries()) {
    world.apply({ states: state });
    if (i > 0) look(state.join());
  }
  const { words } = world.table;
  for (const { first } of connectionsIn(world)) words[first + Flow.DELTAS] |= Flow.MOST_TAG << Flow.TAG_SHIFT;
  look('nobody knows');
  if (seen.size < 2) wrong.push('no table led anywhere else');
  return wrong;
}

/** Of each kind a segment by the program and by the pipeline; and {@link tableChanges}. Returns what is wrong. */
export function wrapsAlike(kernel: KernelPathOptions): string[] {
  return Object.values(WRAPPED).flatMap(({ name, options }) => {
    const path = new KernelPath(kernel);
    const { flows, hops } = path.memory;
    const world = new World({ ...options, capacity: kernel.capacity, memory: { flows, hops } });
    world.send(fromClient({ from: 5000, flags: 'S', sequence: 100 }));
    const segment = fromClient({ from: 5000, sequence: 101, acknowledgment: 201 });
    const expected = Buffer.from(world.send(segment).frame).toString('hex');
    const out = path.take(buildFrame(segment));
    const got = out === undefined ? 'up' : Buffer.from(out).toString('hex');
    const wrong = got === expected ? [] : [`${got}, not ${expected}`];
    if (options.scheduler === 'glb') wrong.push(...tableChanges(path, world));
    path.close();
    return wrong.map((what) => `${kernel.program}, ${name}: ${what}`);
  });
}
