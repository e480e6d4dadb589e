/**
 * Weights, by each scheduler and for each protocol, as connections are opened: chi-square over thousands of them. And a pool that grows and
 * shrinks under sessions, in a world's own time.
 */
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { prepare, SCHEDULERS, type SchedulerName } from '../../src/balance/index.ts';
import type { Protocol } from '../../src/flow/protocol.ts';
import { protocols } from '../../src/flow/protocols.ts';
import type { ServerEntry, ServiceSet } from '../../src/forward/service-set.ts';
import { Ways } from '../../src/forward/ways.ts';
import * as C from '../../src/layout/connection.ts';
import * as Flow from '../../src/layout/flow.ts';
import { parseAddress, portsWord, swap32 } from '../../src/packet/address.ts';
import { TCP } from '../../src/packet/fields.ts';
import { buildFrame, type Packet } from '../lab/packets.ts';
import { BACK, MAC, VIP, World } from '../lab/world.ts';

const OPENINGS = 2000;
/** Chi-square that one in 100,000 honest draws exceeds, by degrees of freedom. */
const CRITICAL = [0, 19.5, 23.0];
const CARRIED = protocols.filter(({ hasPorts }) => hasPorts);
const CLIENT_SIDE = 1;

let state = 0;
beforeEach(() => {
  state = 2_463_534_242;
  vi.spyOn(Math, 'random').mockImplementation(random);
});

/** In [0, 1), the same in each run. */
function random(): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) / 2 ** 32;
}

/** Those of GLB's table have no weights, and no memory (glb.test.ts). */
const WITHOUT_ROWS = SCHEDULERS.filter((name) => name !== 'glb');

/** Servers in the file's order, by index: those that may be chosen have a weight, others drain. */
interface Pool {
  readonly scheduler: SchedulerName;
  readonly weights: readonly (number | undefined)[];
  /** Indexes of servers that are down. */
  readonly down?: readonly number[];
}

/** Frontends of the protocols on port 80 of the VIP, each with a backend of its own: of the same servers, as `services.ts` names them. */
function serviceSet(carried: readonly Protocol[], { scheduler, weights, down = [] }: Pool): ServiceSet {
  const backendOf = ({ number: protocol }: Protocol, place: number) => {
    const servers = weights.map((_, i): ServerEntry => {
      return {
        index: place * weights.length + i,
        address: parseAddress(`172.16.0.${i + 1}`),
        port: 8080,
        protocol,
        ...(down.includes(i) && { lost: true }),
      };
    });
    const candidates = weights.flatMap((weight, i) =>
      weight === undefined || down.includes(i) ? [] : [{ name: `172.16.0.${i + 1}:8080`, weight, index: servers[i].index, maxconn: 0 }],
    );
    return { name: `b${place}`, mode: 'passthrough' as const, servers, choice: prepare(scheduler, candidates) };
  };
  return {
    frontends: carried.map(({ number: protocol }, index) => {
      return { index, address: parseAddress(VIP), port: 80, protocol, backend: `b${index}`, maxconn: 0, draining: false };
    }),
    backends: carried.map(backendOf),
  };
}

function apply(world: World, ways: Ways, set: ServiceSet): void {
  world.services.apply(set, ways.apply(set));
}

/** Client i: another address and another port each. */
function client(i: number): [address: number, ports: number] {
  return [swap32(0x0a000000 + ((i * 7919) % 0xffffff)), portsWord(1024 + (i % 50_000), 80)];
}

/** How many of so many new clients each server gets; such as stay, or such as have gone when the next one comes. */
function openings(world: World, protocol: Protocol, { weights }: Pool, { from = 0, stay = false } = {}): number[] {
  const { opener, services, table, records, connections } = world.core;
  const given = weights.map(() => 0);
  for (let i = from; i < from + OPENINGS; i++) {
    const [address, ports] = client(i);
    const frontend = services.frontendAt(parseAddress(VIP), 80, protocol.number)!;
    const slot = opener.open(frontend, address, parseAddress(VIP), ports, 1, CLIENT_SIDE, world.now | 0);
    if (slot < 0) throw new Error(`no place for client ${i}: ${~slot}`);
    const record = table.words[slot * Flow.ENTRY + Flow.CONNECTION];
    given[(records.words[record * C.RECORD + C.OWNER] & 0xffff) % weights.length]++;
    if (!stay) connections.remove(slot, world.now | 0);
  }
  return given;
}

/** Pearson's. */
function chiSquare(given: readonly number[], weights: readonly number[]): number {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return given.reduce((sum, count, i) => {
    const expected = (OPENINGS * weights[i]) / total;
    return sum + (count - expected) ** 2 / expected;
  }, 0);
}

const ROOMY = { capacity: 65_536, connections: 32_768 };

describe.each(CARRIED.map((protocol) => [protocol.name, protocol] as const))('%s', (_, protocol) => {
  // CARP's hash is not even: carp.test.ts says what it gives.
  describe.each(WITHOUT_ROWS.filter((name) => name !== 'first' && name !== 'carp'))('%s', (scheduler) => {
    test.each([{ weights: [10, 5] }, { weights: [10, 100, 1] }])(
      'gives $weights what they ask for, and other weights at once',
      ({ weights }) => {
        for (const stay of [false, true]) {
          const [world, ways] = [new World(ROOMY), new Ways()];
          const pool = { scheduler, weights };
          apply(world, ways, serviceSet([protocol], pool));
          expect(chiSquare(openings(world, protocol, pool, { stay }), weights), `stay: ${stay}`).toBeLessThan(CRITICAL[weights.length - 1]);
          if (stay) continue;
          const turned = { scheduler, weights: weights.toReversed() };
          apply(world, ways, serviceSet([protocol], turned));
          const after = openings(world, protocol, turned, { from: OPENINGS });
          expect(chiSquare(after, turned.weights)).toBeLessThan(CRITICAL[weights.length - 1]);
        }
      },
    );
  });

  test('first asks for no weights', () => {
    const pool = { scheduler: 'first', weights: [1, 100] } as const;
    const world = new World(ROOMY);
    apply(world, new Ways(), serviceSet([protocol], pool));
    expect(openings(world, protocol, pool)).toEqual([OPENINGS, 0]);
  });
});

const [CHANGES, SERVERS] = [30, 8];
/** Of each protocol: many with lb4's default, and fewer with others, which the same code keeps. */
const SESSIONS: Readonly<Record<Exclude<SchedulerName, 'glb'>, number>> = {
  maglev: 500,
  carp: 50,
  first: 50,
  leastconn: 50,
  random: 50,
  roundrobin: 50,
  source: 50,
};

/** A client that goes on talking. */
class Session {
  readonly protocol: Protocol;
  readonly #address: string;
  readonly #port: number;
  readonly #packet: Uint8Array;
  /** The address of its server. */
  server: string;

  /** Opens it, and has its server answer. */
  constructor(world: World, protocol: Protocol, i: number) {
    this.protocol = protocol;
    this.#address = `10.0.${i >> 8}.${i & 255}`;
    this.#port = 2000 + i;
    this.server = this.#begin(world, buildFrame(this.#from('S')));
    this.#packet = buildFrame(this.#from('A'));
    this.go(world);
  }

  /** One packet more. Returns the address of the server that gets it: a new one answers. */
  go(world: World): string {
    const { server } = this.#send(world, this.#packet);
    return server === this.server ? server : this.#begin(world, this.#packet);
  }

  #begin(world: World, packet: Uint8Array): string {
    const { server, port } = this.#send(world, packet);
    const answer = { ethernet: [MAC.back, MAC.servers[0]] as const, source: server, destination: VIP };
    const ports = { from: 8080, to: port };
    world.send({ ...answer, ...(this.protocol.number === TCP ? { tcp: { ...ports, flags: 'SA' } } : { udp: ports }) }, { interface: BACK });
    return server;
  }

  #from(flags: string): Packet {
    const ports = { from: this.#port, to: 80 };
    const transport = this.protocol.number === TCP ? { tcp: { ...ports, flags } } : { udp: ports };
    return { ethernet: [MAC.front, MAC.client], source: this.#address, destination: VIP, ...transport };
  }

  #send(world: World, packet: Uint8Array): { server: string; port: number } {
    const { out, frame, verdict } = world.sendFrames([{ frame: packet }])[0];
    if (out !== 'send') throw new Error(`${this.protocol.name} of ${this.#address}: ${verdict}`);
    return { server: frame.subarray(30, 34).join('.'), port: frame[34] * 256 + frame[35] };
  }
}

/** The pool a second later: a server more or less, and now and then another one that is down, or none. The first two are in it always. */
function changed({ weights, down = [], ...pool }: Pool): Pool {
  const at = Math.floor(random() * SERVERS);
  if (random() < 0.3) {
    return { ...pool, weights, down: down.includes(at) ? [] : [at] };
  }
  return { ...pool, weights: weights.map((weight, i) => (i === at && i > 1 ? (weight === undefined ? 1 + at : undefined) : weight)), down };
}

test.each(WITHOUT_ROWS)('%s: no session moves in a pool that grows and shrinks each second, unless its server went', (scheduler) => {
  const [world, ways] = [new World({ capacity: 8192, connections: 4096 }), new Ways()];
  let pool: Pool = { scheduler, weights: Array.from({ length: SERVERS }, (_, i) => (i < SERVERS / 2 ? 1 + i : undefined)) };
  apply(world, ways, serviceSet(CARRIED, pool));
  const sessions = CARRIED.flatMap((protocol) => Array.from({ length: SESSIONS[scheduler] }, (_, i) => new Session(world, protocol, i)));
  const moved: string[] = [];
  for (let second = 1; second <= CHANGES; second++) {
    pool = changed(pool);
    apply(world, ways, serviceSet(CARRIED, pool));
    world.sweepAll(second * 1000);
    const isDown = (server: string) => (pool.down ?? []).includes(Number(server.split('.')[3]) - 1);
    for (const session of sessions) {
      const server = session.go(world);
      // Whose server is down may have another one, if it is none of TCP's.
      const mayMove = session.protocol.isDatagram && isDown(session.server);
      if (mayMove ? isDown(server) : server !== session.server)
        moved.push(`${second} s: ${session.protocol.name} from ${session.server} to ${server}`);
      session.server = server;
    }
  }
  expect(moved).toEqual([]);
});
