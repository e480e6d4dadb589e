/** The core alone, opening and closing connections packet by packet, without a kernel: what bench/connect runs in a process of its own. */
import { prepare } from '../src/balance/index.ts';
import { hashKey, tableCapacity } from '../src/flow/table.ts';
import { createCore } from '../src/forward/core.ts';
import { writeHop } from '../src/forward/next-hops.ts';
import type { ServiceSet } from '../src/forward/service-set.ts';
import { Verdict } from '../src/forward/verdict.ts';
import { Ways } from '../src/forward/ways.ts';
import * as D from '../src/layout/frames.ts';
import { ownMemory } from '../src/layout/memory.ts';
import { parseAddress, portsWord, swap16, swap32, swapPorts } from '../src/packet/address.ts';
import { fold } from '../src/packet/checksum.ts';
import { ACK, FIN, SYN, slabOf, TCP } from '../src/packet/fields.ts';
import { threadTime } from './measure.ts';

const SLOT = 192;
const IP = 96;
const SERVERS = 64;
/** As many as a second has, and those in TIME_WAIT for one. */
const CONNECTIONS = 2_000_000;
const TIMEOUTS = {
  syn: 30_000,
  established: 7_440_000,
  fin: 120_000,
  timeWait: 1_000,
  closed: 1_000,
  udp: 30_000,
  udpStream: 120_000,
  icmp: 30_000,
};
/** Seconds: what is compiled is compiled, and the first connections leave TIME_WAIT. */
const WARM_UP = 2;
/** Connections a step is taken of at a time. */
const ROUND = 4096;
/** Of a tick (engine/duties.ts). */
const MOST_VISITS = 4096;
/** Of the clients: no two connections are of the same within 10 million. */
const [ADDRESSES, PORTS] = [200, 50_000];
const VIP = parseAddress('192.168.0.1');
const [CLIENT_SIDE, SERVER_SIDE] = [1, 2];
const CLIENT_ISN = 5000;
const SERVER_ISN = 90_000;
/** Who sends, flags, and how far behind its first number and the other's: all of a connection whose client closes. */
const STEPS = [
  { isReply: false, flags: SYN, sequence: 0, acknowledges: undefined },
  { isReply: true, flags: SYN | ACK, sequence: 0, acknowledges: 1 },
  { isReply: false, flags: ACK, sequence: 1, acknowledges: 1 },
  { isReply: false, flags: FIN | ACK, sequence: 1, acknowledges: 1 },
  { isReply: true, flags: FIN | ACK, sequence: 1, acknowledges: 2 },
  { isReply: false, flags: ACK, sequence: 2, acknowledges: 2 },
] as const;
type Step = (typeof STEPS)[number];

/** Nanoseconds of the core's own time a connection. */
export interface Costs {
  /** Each of STEPS. */
  readonly steps: readonly number[];
  readonly sweep: number;
}

/** Opens and closes connections for so many seconds of the core's own time, after those that warm it up. */
export function openAndClose(seconds: number): Costs {
  const { core, memory, slab, frames } = build();
  const { process: pipeline } = core;
  const { words } = slab;
  /** Of each connection under way: the client's address and ports, the server's address, and the ports of its answers. */
  const ends = new Int32Array(ROUND * 4);
  let spent = 0;
  let opened = 0;
  let counted = 0;
  let sweptTo = 0;
  let lastTick = 0;
  /** Milliseconds: of each step, then of the sweep. */
  const costs = new Float64Array(STEPS.length + 1);
  const timed = (cost: number, work: () => void): void => {
    const start = threadTime();
    work();
    const taken = threadTime() - start;
    spent += taken;
    if (counted > 0) costs[cost] += taken;
  };
  while (spent < 1000 * (WARM_UP + seconds)) {
    if (spent > 1000 * WARM_UP) counted += ROUND;
    for (let i = 0; i < ROUND; i++) {
      const client = opened + i;
      ends[i * 4] = swap32(0x0a000000 + (Math.floor(client / PORTS) % ADDRESSES));
      ends[i * 4 + 1] = portsWord(1024 + (client % PORTS), 80);
    }
    for (const [at, step] of STEPS.entries()) {
      for (let i = 0; i < ROUND; i++) write(words, (i * SLOT + IP) >> 2, ends, i * 4, step);
      timed(at, () => {
        frames[D.CLOCK] = Math.floor(spent);
        for (let first = 0; first < ROUND; first += D.BATCH) {
          describe(frames, first, step.isReply);
          pipeline(D.BATCH);
        }
      });
      // What the server has seen is what it answers.
      for (let i = 0; i < ROUND && step.acknowledges === undefined; i++) {
        const w = (i * SLOT + IP) >> 2;
        ends[i * 4 + 2] = words[w + 4];
        ends[i * 4 + 3] = swapPorts(words[w + 5]);
      }
    }
    opened += ROUND;
    const now = Math.floor(spent);
    // As engine/duties.ts does it, every 10 ms.
    const elapsed = Math.min(now - lastTick, 200);
    const share = Math.ceil((CONNECTIONS * elapsed) / 1000);
    const most = Math.ceil((MOST_VISITS * elapsed) / 10);
    lastTick = now;
    timed(STEPS.length, () => {
      sweptTo = core.sweep.visit(sweptTo, share, most, now);
    });
  }
  const { verdicts } = memory.counters;
  if (verdicts[Verdict.opened] !== opened) throw new Error(`only ${verdicts[Verdict.opened]} of ${opened} were opened`);
  if (verdicts[Verdict.forwarded] !== opened * (STEPS.length - 1))
    throw new Error(`only ${verdicts[Verdict.forwarded]} packets were forwarded`);
  const [...each] = costs.map((cost) => (cost * 1e6) / counted);
  return { steps: each.slice(0, -1), sweep: each[STEPS.length] };
}

function build() {
  const slab = slabOf(new ArrayBuffer(ROUND * SLOT));
  const frames = D.createFrames();
  const capacity = tableCapacity(CONNECTIONS);
  const memory = ownMemory({ capacity, connections: CONNECTIONS });
  // All of it is there from the start, as in a file that lb4 makes.
  new Uint8Array(memory.flows.buffer).fill(0);
  const key = hashKey(new Uint32Array([1, 0x9e3779b1, 0x85ebca6b, 0xc2b2ae35]));
  const core = createCore({ memory, slab, frames, hashKey: key, answersPerSecond: 0 });
  for (let i = 0; i < SERVERS; i++) writeHop(memory.hops, 1 + i, SERVER_SIDE, 1500, new Uint8Array(6), new Uint8Array(6));
  core.services.apply(...services());
  core.sweep.setTimeouts(TIMEOUTS);
  core.lastHops.setInterfaces(new Map([[CLIENT_SIDE, 1500]]));
  return { core, memory, slab, frames };
}

/** The batch whose first frame is `first`, as a driver describes it. */
function describe(frames: Int32Array, first: number, isReply: boolean): void {
  for (let i = 0; i < D.BATCH; i++) {
    const f = D.HEADER + i * D.STRIDE;
    frames[f + D.OFFSET] = (first + i) * SLOT + IP;
    frames[f + D.LENGTH] = 46;
    frames[f + D.INTERFACE] = isReply ? SERVER_SIDE : CLIENT_SIDE;
    frames[f + D.FLAGS] = 0;
  }
}

/** The segment of a step, at word `w`; `e`: its connection in `ends`. */
function write(words: Int32Array, w: number, ends: Int32Array, e: number, { isReply, flags, sequence, acknowledges }: Step): void {
  words[w] = 0x45 | (swap16(40) << 16);
  words[w + 1] = 0x40;
  words[w + 2] = 64 | (TCP << 8);
  words[w + 3] = isReply ? ends[e + 2] : ends[e];
  words[w + 4] = VIP;
  words[w + 5] = isReply ? ends[e + 3] : ends[e + 1];
  words[w + 6] = swap32((isReply ? SERVER_ISN : CLIENT_ISN) + sequence);
  words[w + 7] = acknowledges === undefined ? 0 : swap32((isReply ? CLIENT_ISN : SERVER_ISN) + acknowledges);
  words[w + 8] = (5 << 4) | (flags << 8) | 0xffff0000;
  const addresses = halves(words[w + 3]) + halves(words[w + 4]);
  const rest = halves(words[w + 5]) + halves(words[w + 6]) + halves(words[w + 7]) + halves(words[w + 8]);
  words[w + 9] = ~fold((TCP << 8) + swap16(20) + addresses + rest) & 0xffff;
  words[w + 2] |= ~fold(halves(words[w]) + halves(words[w + 1]) + halves(words[w + 2]) + addresses) << 16;
}

/** Both halves of a word, to be added up. */
function halves(word: number): number {
  return (word & 0xffff) + (word >>> 16);
}

function services(): [ServiceSet, ReturnType<Ways['apply']>] {
  const servers = Array.from({ length: SERVERS }, (_, i) => {
    return { index: i, address: parseAddress(`172.16.0.${i + 1}`), port: 8080, protocol: TCP };
  });
  const candidates = servers.map(({ index }) => ({ name: `s${index}`, weight: 1, index, maxconn: 0 }));
  const set: ServiceSet = {
    frontends: [{ index: 0, address: VIP, port: 80, protocol: TCP, backend: 'b', maxconn: 0, draining: false }],
    backends: [{ name: 'b', mode: 'passthrough', choice: prepare('maglev', candidates), servers }],
  };
  return [set, new Ways().apply(set)];
}
