/** What crosses between the main thread and its workers. */

import type { Timeouts } from '../flow/protocol.ts';
import type { Ports } from '../forward/crossing.ts';
import type { EndingOrders, Endings } from '../forward/endings.ts';
import type { ServiceSet } from '../forward/service-set.ts';
import type { Signal } from '../forward/signals.ts';
import type { SynFlood } from '../forward/syn-guard.ts';
import type { FrontendHops } from '../forward/ways.ts';
import type { MapFds } from '../io/fast-path.ts';
import type { Room } from '../layout/memory.ts';
import type { FlowQuery } from './flow-query.ts';

/** What the packet core is told, all of it each time: applying it twice changes nothing. */
export interface Settings {
  readonly services: ServiceSet;
  readonly timeouts: Timeouts;
  /** What the connection log asks for; undefined: it is off. */
  readonly endings?: EndingOrders | undefined;
}

/** Settings with what the engine adds to them. */
export interface Orders {
  readonly settings: Settings;
  readonly hops: FrontendHops;
  /** What the kernel shall hand up: io/filter.ts. */
  readonly filter: Uint32Array;
}

/**
 * Whose turn it is to forward: another lb4's, or nobody's until {@link WorkerData} has been sent. Then each worker takes up its part of what
 * was found (own), and forwards when all have: limits hold over all.
 */
export const TURN = { others: 0, nobodys: 1, own: 2, all: 3 } as const;

/** What a worker needs to open its ring, which takes nothing before its turn comes; what to do with the frames in it is told later. */
export interface RingData {
  /** Receive slots of 128 KB, a power of two. */
  readonly ringSlots: number;
  readonly filter: Uint32Array;
  /** Between interfaces: frames of any kind. */
  readonly takesAll?: boolean | undefined;
  /** Between interfaces: those that are ports by now, as the driver has them; nothing is received of them yet. */
  readonly ports?: readonly number[] | undefined;
  /** The filter of another lb4's socket, a loaded program, where the kernel forwards a part of what comes there. */
  readonly tap?: number | undefined;
  /** Memory of another lb4, which may still write to it: that of {@link WorkerData}, if it is found. */
  readonly memoryFd: number | undefined;
  /** Which one it is, of how many. */
  readonly worker: number;
  readonly workers: number;
  /** How long it looks at the ring before it sleeps, in microseconds. */
  readonly busyPollUs: number;
  /** The processor that it is pinned to. */
  readonly cpu: number | undefined;
  /** One word, that of {@link TURN}. */
  readonly turn: SharedArrayBuffer;
}

export interface WorkerData extends Orders {
  /** The shared memory's descriptor; descriptors belong to the process, so the worker maps it by number. */
  readonly memoryFd: number;
  readonly room: Room;
  /** The kernel's maps, if flows and next hops are there. */
  readonly maps?: MapFds | undefined;
  /** Whose parts of it are its own. */
  readonly worker: number;
  /** The memory is that of an lb4 that died, and this the attempt of that number to go on with its connections (recovery.ts); 0: it is new. */
  readonly attempts: number;
  /** Resets and ICMP errors of all workers. */
  readonly answersPerSecond: number;
  /** Those of them to one address. */
  readonly answersPerSource: number;
  /** From so many half-open connections on SYNs may be a flood; 0: never. */
  readonly floodFrom: number;
  /** MTU by the index of an interface that is up. */
  readonly mtus: ReadonlyMap<number, number>;
  /** The interfaces that it stands between, if it does. */
  readonly ports?: Ports | undefined;
  /** What all workers know of sources; undefined: it is the only one. */
  readonly sources?: Int32Array | undefined;
}

export type ToWorker =
  | ({ readonly type: 'settings' } & Orders)
  | { readonly type: 'interfaces'; readonly mtus: ReadonlyMap<number, number>; readonly ports?: Ports | undefined }
  | EndRecords
  /** Connections whose packets are to come the long way, the kernel's, too. */
  | { readonly type: 'takeBack'; readonly records: Int32Array }
  /** Captures by that order from now on; undefined: no more. */
  | { readonly type: 'capture'; readonly order: CaptureOrder | undefined }
  /** Whether it lives: its loop answers `alive`. */
  | { readonly type: 'ask' }
  | { readonly type: 'stop' };

/** Connections to be ended by order: of each its record, the slot of its client's flow, and that slot's VERSION. What is another one by now stays. */
export interface EndRecords {
  readonly type: 'end';
  readonly records: Int32Array;
}

/** What a worker is told of a capture. */
export interface CaptureOrder {
  /** A ring for each worker (capture-ring.ts), the same at every capture: a descriptor of the process `pid`. */
  readonly fd: number;
  readonly pid: number;
  readonly query: FlowQuery;
  /** Bytes of a packet that are kept at most. */
  readonly snaplen: number;
  /** Flows that are captured are the kernel's no more meanwhile. */
  readonly takesBack: boolean;
}

/** Words of each of {@link EndRecords}. */
export const ORDER = 3;

/** Settings are applied in the order in which they were sent, and each is answered. */
export type FromWorker =
  /** It has its ring, by this descriptor. */
  | Opened
  /** It forwards no more, and touches no memory. */
  | { readonly type: 'stopped' }
  | Ready
  | { readonly type: 'applied' }
  | { readonly type: 'alive' }
  /** Told whenever they change, and before what changed them is applied: what some connection leaves from, or may. Native order. */
  | { readonly type: 'sources'; readonly addresses: readonly number[] }
  | { readonly type: 'signals'; readonly servers: readonly Signal[] }
  /** SYNs flood one of its workers, or do not any more. */
  | { readonly type: 'flood'; readonly flood: SynFlood }
  /** Connections that have ended. */
  | { readonly type: 'ended'; readonly endings: Endings };

/** What the process of the pcap driver tells beside that. */
export type FromProcess =
  | FromWorker
  | { readonly type: 'told'; readonly message: string }
  | { readonly type: 'failed'; readonly message: string; readonly code: string | undefined };

export interface Opened {
  readonly type: 'open';
  readonly fd: number;
}

export interface Ready {
  readonly type: 'ready';
  /** Connections that go on. */
  readonly recovered: number;
  /** -1: messages wake it by themselves. */
  readonly wakeFd: number;
}
