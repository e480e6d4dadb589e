/** A pipeline with everything around it, in memory: frames go in as bytes, and come out as bytes with a verdict. */
import type { Access } from '../../src/access/guard.ts';
import { eligible } from '../../src/balance/eligible.ts';
import type { HashField } from '../../src/balance/glb-hash.ts';
import { type Candidate, type Choice, prepare, rankRows, type SchedulerName } from '../../src/balance/index.ts';
import { recover } from '../../src/engine/recovery.ts';
import type { Timeouts } from '../../src/flow/protocol.ts';
import { hashKey } from '../../src/flow/table.ts';
import { type Core, createCore } from '../../src/forward/core.ts';
import type { FrontendPort, Ports } from '../../src/forward/crossing.ts';
import { setLinks } from '../../src/forward/links.ts';
import { writeHop, writeTunnel } from '../../src/forward/next-hops.ts';
import type { ServiceSet } from '../../src/forward/service-set.ts';
import { type VerdictName, verdictNames } from '../../src/forward/verdict.ts';
import { Ways } from '../../src/forward/ways.ts';
import * as C from '../../src/layout/connection.ts';
import * as Flow from '../../src/layout/flow.ts';
import * as D from '../../src/layout/frames.ts';
import { SERVER_LINKS } from '../../src/layout/hops.ts';
import { type KernelMaps, type Memory, memoryIn, memorySize, ownMemory } from '../../src/layout/memory.ts';
import { parseAddress } from '../../src/packet/address.ts';
import { ICMP, type Slab, slabOf, TCP } from '../../src/packet/fields.ts';
import { type PortSlice, portSlice } from '../../src/packet/steering.ts';
import { buildFrame, type Packet } from './packets.ts';

export const VIP = '192.0.2.1';
export const CLIENT = '10.0.0.9';
export const SERVERS = ['172.16.0.1', '172.16.0.2'] as const;
export const MAC = {
  client: '02:00:00:00:00:c1',
  front: '02:00:00:00:00:f1',
  back: '02:00:00:00:00:b1',
  servers: ['02:00:00:00:05:01', '02:00:00:00:05:02'],
} as const;
/** What wrapped packets come from where nobody says otherwise. */
export const OUTER = '172.16.0.254';
export const [FRONT, BACK] = [1, 2];
export const HASH_KEY = new Uint32Array([1, 0x9e3779b1, 0x85ebca6b, 0xc2b2ae35]);
export const TIMEOUTS: Timeouts = {
  syn: 5_000,
  established: 100_000,
  fin: 20_000,
  timeWait: 10_000,
  closed: 1_000,
  udp: 30_000,
  udpStream: 120_000,
  icmp: 30_000,
};

/** Between these ports of clients and the servers' one. */
export function between(...frontends: FrontendPort[]): Ports {
  return { backend: BACK, backendMtu: 1500, frontends };
}

/** A port of clients, whoever they are. */
export function frontPort(ifindex: number, clients: FrontendPort['clients'] = []): FrontendPort {
  return { name: `eth${ifindex}`, ifindex, mtu: 1500, clients };
}

type Mode = ServiceSet['backends'][number]['mode'];

export interface WorldOptions {
  readonly mode?: Mode;
  readonly scheduler?: SchedulerName;
  /** By its number; TCP when left out. */
  readonly protocol?: number;
  readonly perPacket?: boolean;
  /** Ports of the VIP, all with one backend. */
  readonly ports?: readonly number[];
  /** Pings of the VIP are answered by lb4 itself. */
  readonly echo?: boolean;
  /** Whether each server is up. */
  readonly up?: readonly boolean[];
  /** Their addresses. */
  readonly servers?: readonly string[];
  /** The frontends have another backend by now, of servers at these addresses; the first one drains. */
  readonly successor?: readonly string[];
  /** The backends' source addresses, and those of before. */
  readonly sources?: readonly string[];
  readonly formerSources?: readonly string[];
  /** With the scheduler `glb`: what each server is to the table (active), what is hashed (the source), and what for two hops more. */
  readonly states?: readonly ('active' | 'draining')[];
  readonly hashFields?: readonly HashField[];
  readonly altHashFields?: readonly HashField[];
  /** What packets are wrapped in, where the mode has them wrapped. */
  readonly tunnel?: ServiceSet['backends'][number]['tunnel'];
  /** What servers see clients of a prefix as. */
  readonly prefix?: ServiceSet['backends'][number]['prefix'];
  /** So long a client stays with its server after its last connection, in ms. */
  readonly affinity?: number;
  /** Other addresses of this host. */
  readonly locals?: readonly string[];
  /** Connections at a time, of each server and of each frontend. */
  readonly maxconn?: number;
  readonly frontendMaxconn?: number;
  readonly capacity?: number;
  /** Connections at most. */
  readonly connections?: number;
  readonly answers?: number;
  /** Those to one address. */
  readonly answersEach?: number;
  readonly floodFrom?: number;
  /** The frontends' rules about clients. */
  readonly access?: Access;
  /** What all workers know of sources, where it is one of several. */
  readonly known?: Int32Array;
  readonly mtu?: number;
  readonly clientMtu?: number;
  readonly memory?: Partial<Memory>;
  /** The source ports that it hands out. */
  readonly slice?: PortSlice;
  /** All of it, of a world that died: this one goes on with its connections. */
  readonly found?: Memory;
  /** The clock at its start. */
  readonly now?: number;
  /** Its flows may be lent to the kernel; as its memory is when left out. */
  readonly isInKernel?: boolean;
  /** It stands between these interfaces. */
  readonly inline?: Ports;
  /** What stands around each frame in its slot. */
  readonly guard?: number;
}

export interface Change {
  readonly up?: readonly boolean[];
  readonly access?: Access | undefined;
  /** Indexes of servers and frontends. */
  readonly gone?: readonly number[];
  /** Indexes of servers that are down while others are up. */
  readonly lost?: readonly number[];
  readonly draining?: readonly number[];
  readonly states?: readonly ('active' | 'draining')[];
  readonly tunnel?: WorldOptions['tunnel'];
  readonly goneFrontends?: readonly number[];
  readonly sources?: readonly string[];
  readonly formerSources?: readonly string[];
}

/** How a frame comes in, beside what is in it. */
export interface Arrival {
  readonly interface?: number;
  readonly truncated?: boolean;
  readonly noEthernet?: boolean;
  /** Bytes captured from the IP header on. */
  readonly captured?: number;
  /** No IPv4, and its tag, as a driver says of any frame (layout/frames.ts). */
  readonly foreign?: boolean;
  readonly vlan?: number;
}

export interface Outcome {
  readonly verdict: VerdictName;
  readonly out: 'drop' | 'send' | 'route' | 'flood';
  readonly interface: number;
  readonly flags: number;
  /** Bytes of an IP packet that it is cut to on its way out, if so. */
  readonly cut: number | undefined;
  /** From the Ethernet header on. */
  readonly frame: Uint8Array;
  readonly vnet: Uint8Array;
}

const SLOT = 1 << 17;
const SLOTS = 4;
/** Next hops that there are; without source addresses a server's is at its own place. */
const WAYS = 16;
const IP = 96 + D.HEADROOM;
const ETHERNET = 14;
const VNET_AND_ETHERNET = 24;
/** Bytes behind each frame that are looked at afterwards: an answer to a small one may be larger than it. */
const GUARD = 640;
const OUTS = ['drop', 'send', 'route', 'flood'] as const;

export class World {
  readonly slab: Slab = slabOf(new ArrayBuffer(SLOT * SLOTS));
  readonly frames = D.createFrames();
  readonly hops: Int32Array;
  readonly statistics: Float64Array;
  readonly verdicts: Float64Array;
  readonly loads: Int32Array;
  readonly ledger: Core['ledger'];
  readonly services: Core['services'];
  readonly signals: Core['signals'];
  readonly table: Core['table'];
  readonly connections: Core['connections'];
  readonly sweep: Core['sweep'];
  readonly records: Core['records'];
  readonly halfOpen: Core['halfOpen'];
  readonly datagrams: Core['datagrams'];
  readonly lastHops: Core['lastHops'];
  readonly memory: Memory;
  readonly core: Core;
  /** Connections that it found. */
  readonly recovered: number;
  /** As last applied. */
  set: ServiceSet = { frontends: [], backends: [] };
  readonly #ways: Ways;
  readonly #options: WorldOptions;
  readonly #guard: number;
  /** As much of it as is looked at. */
  readonly #around: Buffer;
  readonly #process: Core['process'];
  now: number;

  constructor(options: WorldOptions = {}) {
    this.#options = options;
    this.now = options.now ?? 0;
    this.#guard = options.guard ?? 0xee;
    this.#around = Buffer.alloc(2 * GUARD, this.#guard);
    const capacity = options.capacity ?? 256;
    const { slab, frames } = this;
    const memory = options.found ?? { ...ownMemory({ capacity, connections: options.connections ?? capacity / 4 }), ...options.memory };
    this.memory = memory;
    this.#ways = new Ways(memory.ways);
    ({
      hops: this.hops,
      counters: { statistics: this.statistics, verdicts: this.verdicts, loads: this.loads },
    } = memory);
    const core = (this.core = createCore({
      memory,
      slab,
      frames,
      hashKey: hashKey(HASH_KEY),
      // The kernel's maps are memory of their own.
      isInKernel: options.isInKernel ?? memory.flows.buffer !== memory.connections.buffer,
      answersPerSecond: options.answers ?? 100,
      answersPerSource: options.answersEach,
      floodFrom: options.floodFrom,
      isInline: options.inline !== undefined,
      ...(options.slice === undefined ? {} : { slice: options.slice }),
      sources: options.known,
    }));
    ({
      table: this.table,
      ledger: this.ledger,
      services: this.services,
      connections: this.connections,
      sweep: this.sweep,
      records: this.records,
      halfOpen: this.halfOpen,
      datagrams: this.datagrams,
      lastHops: this.lastHops,
      signals: this.signals,
      process: this.#process,
    } = core);
    if (options.inline !== undefined) core.crossing?.setPorts(options.inline);
    else this.lastHops.setInterfaces(new Map([[FRONT, options.clientMtu ?? 1500]]));
    this.sweep.setTimeouts(TIMEOUTS);
    for (let i = 0; i < WAYS; i++)
      writeHop(this.hops, 1 + i, BACK, options.mtu ?? 1500, mac(MAC.back), mac(MAC.servers[i % SERVERS.length]));
    setLinks(this.hops, SERVER_LINKS, [BACK]);
    const { set, hops } = this.apply({ up: options.up ?? [true, true] });
    this.recovered = options.found === undefined ? 0 : recover(core, set, hops, this.now | 0);
  }

  /** The next process, after this one was killed just now. */
  next(more: WorldOptions = {}): World {
    return worldAfter(this.memory, { ...this.#options, ...more }, this.now);
  }

  /** Applies the services with these servers up. */
  setServers(up: readonly boolean[]): void {
    this.apply({ up });
  }

  /** Applies the services as the options say, with changes: servers that are gone, frontends that drain or are gone. */
  apply({ up = [true, true], gone = [], lost = [], draining = [], goneFrontends = [], ...others }: Change = {}) {
    const {
      mode = 'passthrough',
      scheduler = 'roundrobin',
      protocol = TCP,
      ports = [protocol === ICMP ? 0 : 80],
      maxconn = 0,
      frontendMaxconn = 0,
      perPacket = false,
    } = this.#options;
    const { servers: addresses = SERVERS, successor, prefix, affinity, locals = [], echo } = this.#options;
    const { sources: named = [], formerSources = [], access } = { ...this.#options, ...others };
    const sources = named.map(parseAddress);
    const serverAt = (ip: string, index: number) => {
      return { index, address: parseAddress(ip), port: protocol === ICMP ? 0 : 8080, protocol, name: `${ip}:8080`, weight: 1, maxconn };
    };
    const all = addresses.map(serverAt);
    const more = (successor ?? []).map((ip, i) => serverAt(ip, addresses.length + i));
    const servers = all.filter(({ index }) => !gone.includes(index)).map((server) => ({ ...server, lost: lost.includes(server.index) }));
    const { states = [], hashFields = ['source'], altHashFields = [], tunnel } = { ...this.#options, ...others };
    const parts = scheduler === 'glb' ? { keys: { ...GLB_KEYS, hashFields, altHashFields }, rank } : undefined;
    const standing = (index: number) => ({ standing: { state: states[index] ?? ('active' as const), healthy: true } });
    const ranked = servers.map(({ index, name, weight }) => ({ index, name, weight, maxconn, ...standing(index) }));
    const eligibles = eligible(servers.map((server) => ({ ...server, up: up[server.index], backup: false })));
    const candidates = parts === undefined ? eligibles : ranked;
    const frontends = ports.map((port, index) => {
      return {
        index,
        address: parseAddress(VIP),
        port,
        protocol,
        backend: successor === undefined ? 'b' : 'c',
        maxconn: frontendMaxconn,
        draining: draining.includes(index),
        perPacket,
        ...(access === undefined ? {} : { access }),
        ...(echo === undefined ? {} : { echo }),
      };
    });
    const outer = tunnel === undefined ? {} : { tunnel };
    const kept = affinity === undefined ? {} : { affinity: { ms: affinity } };
    const set: ServiceSet = {
      frontends: frontends.filter(({ index }) => !goneFrontends.includes(index)),
      backends: [
        {
          name: 'b',
          mode,
          servers,
          choice: parts === undefined ? prepared(scheduler, candidates) : prepare(scheduler, candidates, undefined, parts),
          sources,
          ...kept,
          ...(prefix === undefined ? {} : { prefix }),
          ...outer,
        },
        ...(successor === undefined ? [] : [{ name: 'c', mode, servers: more, choice: prepared(scheduler, []), sources, ...outer }]),
      ],
      formerSources: formerSources.map(parseAddress),
      locals: locals.map(parseAddress),
    };
    const hops = this.#ways.apply(set);
    for (const way of this.#ways.all()) {
      writeTunnel(this.hops, way.hop, way, way.source || parseAddress(OUTER));
      if (way.tunnel > 0)
        writeHop(
          this.hops,
          way.hop,
          BACK,
          (this.#options.mtu ?? 1500) - way.tunnel,
          mac(MAC.back),
          mac(MAC.servers[(way.hop - 1) % SERVERS.length]),
        );
    }
    this.services.apply(set, hops);
    this.set = set;
    return { set, hops };
  }

  /** One packet through the pipeline. */
  send(packet: Packet, arrival: Arrival = {}): Outcome {
    const flags = (packet.tcp?.partial || packet.udp?.partial ? D.FLAG_PARTIAL : 0) | (packet.gso ? D.FLAG_GSO | (packet.gso << 16) : 0);
    return this.sendFrames([{ frame: buildFrame(packet), flags, arrival }])[0];
  }

  /** Up to SLOTS frames in one batch. The verdict of each is known only of a batch of one. */
  sendFrames(batch: readonly { frame: Uint8Array; flags?: number; arrival?: Arrival }[]): Outcome[] {
    const before = Float64Array.from(this.verdicts);
    this.frames[D.CLOCK] = this.now | 0;
    batch.forEach(({ frame, flags = 0, arrival = {} }, i) => {
      const d = D.HEADER + i * D.STRIDE;
      this.slab.bytes.fill(this.#guard, i * SLOT, i * SLOT + IP + frame.length + GUARD);
      this.slab.bytes.fill(flags & D.FLAG_PARTIAL ? 1 : 0, i * SLOT + IP - 24, i * SLOT + IP - 14);
      this.slab.bytes.set(frame, i * SLOT + IP - 14);
      this.frames[d + D.OFFSET] = i * SLOT + IP;
      this.frames[d + D.LENGTH] = arrival.captured ?? frame.length - 14;
      this.frames[d + D.INTERFACE] = arrival.interface ?? FRONT;
      this.frames[d + D.FLAGS] = flags | (arrival.truncated ? D.FLAG_TRUNCATED : 0) | (arrival.noEthernet ? D.FLAG_NO_ETHERNET : 0);
      if (arrival.foreign) this.frames[d + D.FLAGS] |= D.FLAG_FOREIGN;
      this.frames[d + D.VLAN] = arrival.vlan ?? 0;
      this.frames[d + D.OUT] = 77; // whatever an earlier batch left there
    });
    this.#process(batch.length);
    batch.forEach(({ frame }, i) => this.#checkGuard(i, frame.length - ETHERNET));
    const changed = verdictNames.flatMap((name, i) => {
      const times = this.verdicts[i] - before[i];
      if (times < 0) throw new Error(`verdict ${name} counted ${times} times`);
      return Array.from({ length: times }, () => name);
    });
    if (changed.length !== batch.length) throw new Error(`${batch.length} frames, but verdicts ${changed.join(', ') || '(none)'}`);
    return batch.map((_, i) => this.#outcome(i, changed[i]));
  }

  /** Nothing is written where no frame is: neither the one that came, with room for a tunnel, nor the one that it has become. */
  #checkGuard(i: number, came: number): void {
    const d = D.HEADER + i * D.STRIDE;
    const slot = i * SLOT;
    const [offset, length] = [this.frames[d + D.OFFSET] - slot, this.frames[d + D.LENGTH]];
    const end = Math.max(IP + came, offset + length);
    // A word is written whole: the transport header of a packet that ends within one.
    const guards = this.slab.bytes.subarray(slot + ((end + 3) & ~3), slot + IP + ETHERNET + came + GUARD);
    const before = this.slab.bytes.subarray(slot, slot + IP - D.HEADROOM - VNET_AND_ETHERNET);
    if (![before, guards].every((bytes) => Buffer.compare(bytes, this.#around.subarray(0, bytes.length)) === 0))
      throw new Error(`something was written outside of the frame at ${IP}, ${came} bytes, that is now at ${offset}, ${length} bytes`);
  }

  /** Sets the clock and sweeps the whole table once. */
  sweepAll(now: number): void {
    this.now = now;
    this.sweep.visit(0, this.records.capacity, this.records.capacity, now | 0);
  }

  #outcome(i: number, verdict: VerdictName): Outcome {
    const d = D.HEADER + i * D.STRIDE;
    const out = OUTS[this.frames[d + D.OUT]];
    if (out === undefined) throw new Error(`OUT is ${this.frames[d + D.OUT]} after ${verdict}`);
    const ip = this.frames[d + D.OFFSET];
    return {
      verdict,
      out,
      interface: this.frames[d + D.INTERFACE],
      flags: this.frames[d + D.FLAGS],
      cut: this.frames[d + D.FLAGS] & D.FLAG_CUT ? this.frames[d + D.LIMIT] : undefined,
      frame: this.slab.bytes.slice(ip - 14, ip + this.frames[d + D.LENGTH]),
      vnet: this.slab.bytes.slice(ip - 24, ip - 14),
    };
  }
}

/** So many workers of one lb4, which share their loads, and the kernel's maps if there are any. */
export function worldsOf(workers: number, options: WorldOptions, maps?: KernelMaps): World[] {
  const { capacity = 256, connections = capacity / 4 } = options;
  const room = { capacity, connections, workers, isInKernel: maps !== undefined };
  const mapping = new ArrayBuffer(memorySize(room));
  return Array.from({ length: workers }, (_, worker) => {
    return new World({ ...options, memory: memoryIn(mapping, room, worker, maps), slice: portSlice(worker, workers) });
  });
}

/** A process that has a copy of `memory`, and nothing else of who wrote it. */
export function worldAfter(memory: Memory, options: WorldOptions, now: number): World {
  const { capacity = 256, connections = capacity / 4 } = options;
  const found = ownMemory({ capacity, connections });
  const { header, ways, affinity, flows, connections: records, hops, counters } = memory;
  found.header.set(header);
  found.ways.set(ways);
  found.affinity.set(affinity);
  found.flows.set(flows);
  found.connections.set(records);
  found.hops.set(hops);
  // Not the loads: whoever finds them forgets them (takeUp).
  for (const part of ['verdicts', 'gauges', 'statistics', 'places'] as const) found.counters[part].set(counters[part]);
  return new World({ ...options, found, now });
}

const GLB_KEYS = { hashKey: '12345678901234561234567890123456', seed: '34567890123456783456789012345678' } as const;

/** Ranks take long, and are of addresses alone. */
const ranks = new Map<string, Uint16Array>();
const rank = (seed: string, addresses: readonly number[]): Uint16Array => {
  const known = ranks.get(addresses.join()) ?? rankRows(seed, addresses);
  ranks.set(addresses.join(), known);
  return known;
};

const choices = new Map<string, Choice>();

/** Maglev tables are dear: each is made once. Whose turn it is, is every world's own. */
function prepared(scheduler: SchedulerName, candidates: readonly Candidate[]): Choice {
  const key = JSON.stringify([scheduler, candidates]);
  const known = choices.get(key);
  if (known?.table !== undefined) return known;
  const choice = prepare(scheduler, candidates);
  choices.set(key, choice);
  return choice;
}

function mac(text: string): Uint8Array {
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
}

/** A connection as its record and its flows tell of it. Word indexes. */
export interface Seen {
  readonly record: number;
  readonly first: number;
  /** Undefined where lb4 does not carry the replies. */
  readonly second: number | undefined;
  readonly life: number;
  readonly frontend: number;
  readonly server: number;
  readonly pool: number;
}

/** All connections in a world's memory. */
export function connectionsIn({ records: { words } }: World): Seen[] {
  const seen: Seen[] = [];
  for (let r = 0; r < words.length; r += C.RECORD) {
    const life = words[r + C.LIFE];
    if (life === 0) continue;
    const [second, owner] = [words[r + C.SECOND], words[r + C.OWNER]];
    seen.push({
      record: r / C.RECORD,
      first: words[r + C.FIRST] * Flow.ENTRY,
      second: second === Flow.NONE ? undefined : second * Flow.ENTRY,
      life,
      frontend: owner >>> 16,
      server: owner & 0xffff,
      pool: words[r + C.POOL],
    });
  }
  return seen;
}
