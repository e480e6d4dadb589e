/**
 * A core with established connections, and packets of them to be timed: for bench/core and bench/scale. Each packet is of a random connection,
 * all alike, and of a random direction; what lays it out looks at no flow, which would bring into the cache what the packet is to miss. Its
 * bytes are in the cache, as those of a frame that has just been received.
 */
import { prepare } from '../src/balance/index.ts';
import type { Segment } from '../src/flow/evidence.ts';
import { PendingFins } from '../src/flow/pending-fins.ts';
import { hashKey } from '../src/flow/table.ts';
import { type Core, createCore } from '../src/forward/core.ts';
import { writeHop } from '../src/forward/next-hops.ts';
import type { ServiceSet } from '../src/forward/service-set.ts';
import { Ways } from '../src/forward/ways.ts';
import * as C from '../src/layout/connection.ts';
import * as E from '../src/layout/flow.ts';
import * as D from '../src/layout/frames.ts';
import type { Memory } from '../src/layout/memory.ts';
import { destinationPort, parseAddress, portsWord, swap16, swapPorts } from '../src/packet/address.ts';
import { ACK, SYN, slabOf, TCP, UDP } from '../src/packet/fields.ts';

export const FRAMES = 16384;
const SLOT = 192;
const IP = 96;
const VIP = parseAddress('192.168.0.1');
const SERVERS = 16;

/** One for all, as in lb4: a new one for each would take longer than the connection. */
const SEGMENT: Segment = { flags: 0, sequence: 0, acknowledgment: 1, payload: 0, isReply: false, now: 0, pendingFins: new PendingFins() };

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
  /** The ports of each connection's packets as they leave for its server, which they tell as well. */
  readonly leaving: Int32Array;
  /** How many connections of a hundred are UDP's. */
  readonly udp: number;
}

/** Connection i: client 10.x.y.z:port → VIP:80, with the rewrite that passthrough would have chosen. */
function client(i: number): [address: number, ports: number] {
  return [10 | ((i >>> 8) << 8), portsWord(1024 + (i & 0xff), 80)];
}

/** The server whose port is FIRST_PORT + i. */
const ADDRESSES = Array.from({ length: SERVERS }, (_, i) => parseAddress(`172.16.0.${i}`));
const FIRST_PORT = 8000;

/** As many server ports as it takes for one VIP's 27,233 ports a server. */
function serverPorts(connections: number): number {
  return Math.ceil(connections / 20000);
}

/** What is balanced over what, for so many connections of each protocol. */
export function serviceSet(connections: number, protocols: readonly number[] = [TCP]): ServiceSet {
  const count = serverPorts(connections);
  const backends = protocols.map((protocol, place) => {
    const servers = Array.from({ length: count }, (_, i) => {
      return { index: place * count + i, address: ADDRESSES[i % SERVERS], port: FIRST_PORT + i, protocol };
    });
    const candidates = servers.map(({ index, port }) => ({ name: String(port), weight: 1, index, maxconn: 0 }));
    return { name: `b${protocol}`, mode: 'passthrough' as const, choice: prepare('maglev', candidates), servers };
  });
  const frontends = protocols.map((protocol, index) => {
    return { index, address: VIP, port: 80, protocol, backend: `b${protocol}`, maxconn: 0, draining: false };
  });
  return { frontends, backends };
}

/** Of connection i, where so many of a hundred are UDP's. */
function protocolOf(i: number, udp: number): number {
  return i % 100 < udp ? UDP : TCP;
}

const KEY = hashKey(new Uint32Array([1, 0x9e3779b1, 0x85ebca6b, 0xc2b2ae35]));

/** A core over `memory`, without services yet. */
export function coreOver(memory: Memory): Pick<Bench, 'core' | 'words' | 'frames'> {
  const slab = slabOf(new ArrayBuffer(FRAMES * SLOT));
  const frames = D.createFrames();
  return { core: createCore({ memory, slab, frames, hashKey: KEY, answersPerSecond: 0 }), words: slab.words, frames };
}

/**
 * @param memory with room for them
 * @param udp how many of a hundred are UDP's
 */
export function build(connections: number, memory: Memory, udp = 0): Bench {
  const { core, words, frames } = coreOver(memory);
  const { table: flows, services, opener, process } = core;
  for (let i = 0; i < 2 * Math.max(SERVERS, serverPorts(connections)); i++)
    writeHop(memory.hops, 1 + i, 2, 1500, new Uint8Array(6), new Uint8Array(6));
  const set = serviceSet(connections, udp === 0 ? [TCP] : [TCP, UDP]);
  services.apply(set, new Ways().apply(set));
  const leaving = new Int32Array(connections);
  for (let i = 0; i < connections; i++) {
    const [address, ports] = client(i);
    const protocol = protocolOf(i, udp);
    const slot = opener.open(services.frontendAt(VIP, 80, protocol)!, address, VIP, ports, 1, 1, 0);
    if (slot < 0) throw new Error('no room');
    establish(core, slot, protocol);
    leaving[i] = flows.words[slot * E.ENTRY + E.NEW_PORTS];
  }
  return { core, words, frames, process, verdicts: memory.counters.verdicts, leaving, udp };
}

/** The rest of a handshake, SYN+ACK and ACK; or the first answer. */
function establish({ table: { words }, records, connections }: Core, slot: number, protocol: number): void {
  const second = records.words[words[slot * E.ENTRY + E.CONNECTION] * C.RECORD + C.SECOND];
  SEGMENT.flags = SYN | ACK;
  SEGMENT.sequence = 0;
  connections.follow(second, SEGMENT);
  if (protocol === UDP) return;
  SEGMENT.flags = ACK;
  SEGMENT.sequence = 1;
  connections.follow(slot, SEGMENT);
}

/** Lays out FRAMES packets of random connections, bare segments or datagrams of as many bytes, from the client or from the server. */
function fill({ words, leaving, udp }: Bench): void {
  for (let i = 0; i < FRAMES; i++) {
    const w = (i * SLOT + IP) >> 2;
    const connection = random() % leaving.length;
    const [address, ports] = client(connection);
    const reply = random() & 1;
    words[w] = 0x45 | (swap16(40) << 16);
    words[w + 1] = 0x40;
    const protocol = protocolOf(connection, udp);
    words[w + 2] = 64 | (protocol << 8);
    words[w + 3] = reply ? ADDRESSES[(destinationPort(leaving[connection]) - FIRST_PORT) % SERVERS] : address;
    words[w + 4] = VIP;
    words[w + 5] = reply ? swapPorts(leaving[connection]) : ports;
    // UDP's length, and any checksum; to TCP a sequence number.
    words[w + 6] = swap16(20) | (1 << 16);
    words[w + 8] = (5 << 4) | (0x10 << 8);
    words[w + 9] = 0;
  }
}

/** Nanoseconds a packet, of each round. */
export function run(core: Bench, rounds: number): number[] {
  const results: number[] = [];
  for (let round = 0; round < rounds; round++) {
    fill(core);
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
