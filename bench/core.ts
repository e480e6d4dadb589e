/**
 * Nanoseconds a packet of the TypeScript core, beside the same work in C (-O3) on the same layout, in one run.
 * Packets belong to random connections and alternate in direction; what is timed is `process` on batches of 64.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { prepare } from '../src/balance/index.ts';
import { Claims } from '../src/flow/claims.ts';
import { type FlowTable, hashKey } from '../src/flow/table.ts';
import { type Core, createCore } from '../src/forward/core.ts';
import { writeHop } from '../src/forward/next-hops.ts';
import type { ServiceSet } from '../src/forward/service-set.ts';
import { Verdict } from '../src/forward/verdict.ts';
import { Ways } from '../src/forward/ways.ts';
import * as C from '../src/layout/connection.ts';
import * as E from '../src/layout/flow.ts';
import * as D from '../src/layout/frames.ts';
import { ownMemory } from '../src/layout/memory.ts';
import { parseAddress, portsWord, swap16, swapPorts } from '../src/packet/address.ts';
import { ACK, SYN, slabOf, TCP } from '../src/packet/fields.ts';
import { compile, median, spread, table } from './measure.ts';

const FRAMES = 16384;
const SLOT = 192;
const IP = 96;
const ROUNDS = 40;
const REPEATS = 5;
const VIP = parseAddress('192.168.0.1');
const SERVERS = 16;

let state = 1;
function random(): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return state >>> 0;
}

interface Bench {
  readonly words: Int32Array;
  readonly frames: Int32Array;
  readonly process: (count: number) => void;
  readonly verdicts: Float64Array;
}

/** Connection i: client 10.x.y.z:port → VIP:80, with the rewrite that passthrough would have chosen. */
function client(i: number): [address: number, ports: number] {
  return [10 | ((i >>> 8) << 8), portsWord(1024 + (i & 0xff), 80)];
}

function build(connections: number): Bench {
  // A power of two as in every version so far: how full the table is weighs more than most of what is measured here.
  const capacity = Math.max(256, 2 ** Math.ceil(Math.log2((connections * 2) / 0.6)));
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
    backends: [{ name: 'b', mode: 'passthrough', choice: prepare('roundrobin', candidates), servers }],
  };
  services.apply(set, new Ways().apply(set));
  for (let i = 0; i < connections; i++) {
    const [address, ports] = client(i);
    const slot = opener.open(services.frontendAt(VIP, 80, TCP)!, address, VIP, ports, 1, 1, 0);
    if (slot < 0) throw new Error('no room');
    establish(core, slot);
  }
  fillers.set(process, (n) => fill(slab.words, flows, n));
  return { words: slab.words, frames, process, verdicts: memory.counters.verdicts };
}

/** The rest of a handshake: SYN+ACK and ACK. */
function establish({ table: { words }, records, connections }: Core, slot: number): void {
  const second = records.words[words[slot * E.ENTRY + E.CONNECTION] * C.RECORD + C.SECOND];
  const segment = { payload: 0, isReply: false, now: 0, claims: new Claims() };
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

function run(core: Bench, connections: number, rounds: number): number[] {
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

function child(connections: number): number[] {
  const core = build(connections);
  const results = run(core, connections, ROUNDS * 2).slice(ROUNDS);
  const forwarded = core.verdicts[Verdict.forwarded];
  if (forwarded !== FRAMES * ROUNDS * 2) throw new Error(`only ${forwarded} packets were forwarded`);
  return results;
}

function main(): void {
  const program = compile('core');
  const lines = (text: string): number[] => text.trim().split('\n').map(Number);
  const rows = [['connections', 'TypeScript ns', 'C ns', 'C, three passes ns', 'TypeScript / C', '/ C three passes']];
  for (const connections of [1_000, 100_000, 1_000_000]) {
    const [ts, c1, c3]: [number[], number[], number[]] = [[], [], []];
    for (let i = 0; i < REPEATS; i++) {
      ts.push(median(lines(execFileSync(process.execPath, [fileURLToPath(import.meta.url), String(connections)], { encoding: 'utf8' }))));
      c1.push(median(lines(execFileSync(program, [String(connections), String(ROUNDS), '1'], { encoding: 'utf8' }))));
      c3.push(median(lines(execFileSync(program, [String(connections), String(ROUNDS), '3'], { encoding: 'utf8' }))));
    }
    rows.push([
      connections.toLocaleString('en'),
      spread(ts),
      spread(c1),
      spread(c3),
      (median(ts) / median(c1)).toFixed(2),
      (median(ts) / median(c3)).toFixed(2),
    ]);
  }
  console.log(`ns a packet, median of ${REPEATS} runs of ${ROUNDS} rounds of ${FRAMES} packets (least–most of the runs)`);
  table(rows);
}

if (process.argv[2]) console.log(child(Number(process.argv[2])).join('\n'));
else main();
