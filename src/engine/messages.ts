/** What crosses between the main thread and its worker. */

import type { Timeouts } from '../flow/protocol.ts';
import type { HashKey } from '../flow/table.ts';
import type { ServiceSet } from '../forward/service-set.ts';
import type { Signal } from '../forward/signals.ts';
import type { FrontendHops } from '../forward/ways.ts';
import type { Room } from '../layout/memory.ts';

/** What the packet core is told, all of it each time: applying it twice changes nothing. */
export interface Settings {
  readonly services: ServiceSet;
  readonly timeouts: Timeouts;
}

/** Settings with what the engine adds to them. */
export interface Orders {
  readonly settings: Settings;
  readonly hops: FrontendHops;
  /** What the kernel shall hand up: io/filter.ts. */
  readonly filter: Uint32Array;
}

export interface WorkerData extends Orders {
  /** The shared memory's descriptor; descriptors belong to the process, so the worker maps it by number. */
  readonly memoryFd: number;
  readonly room: Room;
  readonly hashKey: HashKey;
  readonly ringSlots: number;
  readonly answersPerSecond: number;
  /** MTU by interface index. */
  readonly mtus: ReadonlyMap<number, number>;
}

export type ToWorker =
  | ({ readonly type: 'settings' } & Orders)
  | { readonly type: 'interfaces'; readonly mtus: ReadonlyMap<number, number> }
  | { readonly type: 'stop' };

/** Settings are applied in the order in which they were sent, and each is answered. */
export type FromWorker = Ready | { readonly type: 'applied' } | { readonly type: 'signals'; readonly servers: readonly Signal[] };

export interface Ready {
  readonly type: 'ready';
  readonly wakeFd: number;
}
