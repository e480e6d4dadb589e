/** A core with established connections, and packets of them to be timed: for bench/core and bench/scale. */
import { prepare } from '../src/balance/index.ts';
import { PendingFins } from '../src/flow/pending-fins.ts';
import { type FlowTable, hashKey } from '../src/flow/table.ts';
import { type Core, createCore } from '../src/forward/core.ts';
import { writeHop } from '../src/forward/next-hops.ts';
import type { ServiceSet } from '../src/forward/service-set.ts';
import { Ways } from '../src/forward/ways.ts';
import * as C from '../src/layout/connection.ts';
import * as E from '../src/layout/flow.ts';
import * as D from '../src/layout/frames.ts';
import { ownMemory } from '../src/layout/memory.ts';
import { parseAddress, portsWord, swap16, swapPorts } from '../src/packet/address.ts';
import { ACK, SYN, slabOf, TCP } from '../src/packet/fields.ts';

export const FRAMES = 16384;
const SLOT = 192;
const IP = 96;
const VIP = parseAddress('192.168.0.1');
const SERVERS = 16;

const PENDING = new PendingFins();

let state = 1;
function random(): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return state >>> 0;
}

export interface Bench {
  readonly core: Core;
  readonly words: Int32Array;
  readonly frames: Int32Array;
  readonly process: (count: number) => void;
  readonly verdicts: Float64Array;
}

/** Connection i: client 10.x.y.z:port → VIP:80, with the rewrite that passthrough would have chosen. */
function client(i: number): [address: number, ports: number] {
  return [10 | ((i >>> 8) << 8), portsWord(1024 + (i & 0xff), 80)];
}

/** @param capacity homes of the flow table */
export function build(connections: number, capacity: number): Bench {
  const slab = slabOf(new ArrayBuffer(FRAMES * SLOT));
  const frames = D.createFrames();
  const memory = ownMemory({ capacity, connections });
  const key = hashKey(new Uint32Array([1, 0x9e3779b1, 0x85ebca6b, 0xc2b2ae35]));
  const core = createCore({ memory, slab, frames, hashKey: key, answersPerSecond: 0 });
  const { table: flows, services, opener, process } = core;
  for (let i = 0; i < Math.max(SERVERS, connections / 20000); i++)
    writeHop(memory.hops, 1 + i, 2, 1500, new Uint8Array(6), new Uint8Array(6));
  // As many server ports as it takes for one VIP's 27,233 ports a server.
  const servers = Array.from({ length: Math.ceil(connections / 20000) }, (_, i) => ({
    index: i,
    address: parseAddress(`172.16.0.${i % SERVERS}`),
    port: 8000 + i,
    protocol: TCP,
  }));
  const candidates = servers.map(({ index, port }) => ({ name: String(port), weight: 1, index, maxconn: 0 }));
  const set: ServiceSet = {
    frontends: [{ index: 0, address: VIP, port: 80, protocol: TCP, backend: 'b', maxconn: 0, draining: false }],
    backends: [{ name: 'b', mode: 'passthrough', choice: prepare('maglev', candidates), servers }],
  };
  services.apply(set, new Ways().apply(set));
  for (let i = 0; i < connections; i++) {
    const [address, ports] = client(i);
    const slot = opener.open(services.frontendAt(VIP, 80, TCP)!, address, VIP, ports, 1, 1, 0);
    if (slot < 0) throw new Error('no room');
    establish(core, slot);
  }
  fillers.set(process, (n) => fill(slab.words, flows, n));
  return { core, words: slab.words, frames, process, verdicts: memory.counters.verdicts };
}

/** The rest of a handshake: SYN+ACK and ACK. */
function establish({ table: { words }, records, connections }: Core, slot: number): void {
  const second = records.words[words[slot * E.ENTRY + E.CONNECTION] * C.RECORD + C.SECOND];
  const segment = { payload: 0, isReply: false, now: 0, pendingFins: PENDING };
  connections.follow(second, { ...segment, flags: SYN | ACK, sequence: 0, acknowledgment: 1 });
  connections.follow(slot, { ...segment, flags: ACK, sequence: 1, acknowledgment: 1 });
}

const fillers = new Map<(count: number) => void, (connections: number) => void>();

/** Lays out FRAMES bare segments of random connections, from the client or from the server. */
function fill(words: Int32Array, flows: FlowTable, connections: number): void {
  for (let i = 0; i < FRAMES; i++) {
    const w = (i * SLOT + IP) >> 2;
    const [address, ports] = client(random() % connections);
    const at = flows.find(address, VIP, ports, E.live(TCP)) << E.ENTRY_SHIFT;
    const reply = random() & 1;
    words[w] = 0x45 | (swap16(40) << 16);
    words[w + 1] = 0x40;
    words[w + 2] = 64 | (TCP << 8);
    words[w + 3] = reply ? flows.words[at + E.NEW_DESTINATION] : address;
    words[w + 4] = VIP;
    words[w + 5] = reply ? swapPorts(flows.words[at + E.NEW_PORTS]) : ports;
    words[w + 8] = (5 << 4) | (0x10 << 8);
    words[w + 9] = 0;
  }
}

/** Nanoseconds a packet, of each round. */
export function run(core: Bench, connections: number, rounds: number): number[] {
  const results: number[] = [];
  for (let round = 0; round < rounds; round++) {
    fillers.get(core.process)!(connections);
    let spent = 0n;
    for (let first = 0; first < FRAMES; first += D.BATCH) {
      for (let i = 0; i < D.BATCH; i++) {
        const f = D.HEADER + i * D.STRIDE;
        core.frames[f + D.OFFSET] = (first + i) * SLOT + IP;
        core.frames[f + D.LENGTH] = 46;
        core.frames[f + D.FLAGS] = 0;
      }
      const start = process.hrtime.bigint();
      core.process(D.BATCH);
      spent += process.hrtime.bigint() - start;
    }
    results.push(Number(spent) / FRAMES);
  }
  return results;
}
