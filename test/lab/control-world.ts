/** Someone who forwards, for the statistics port to ask: every number is what the test says. */
import { MODES, type Mode } from '../../src/config/modes.ts';
import {
  type BackendView,
  type Counters,
  type FrontendCounters,
  type FrontendView,
  NOTHING,
  type PacketCounters,
  type ServerCounters,
  type ServerView,
  type Source,
  type View,
  type WorkerCounters,
} from '../../src/control/source.ts';

const NONE: Counters = { ...NOTHING, current: 0 };
const WORKER: WorkerCounters = {
  received: 5,
  dropped: 3,
  transmitFailed: 1,
  flows: 4,
  halfOpen: 3,
  halfOpenEvicted: 2,
  datagrams: 6,
  datagramsEvicted: 7,
  affinityEvicted: 8,
  stationsEvicted: 9,
  waysMoved: 10,
  synFloods: 1,
};
export const PACKETS: PacketCounters = {
  ...WORKER,
  verdicts: { forwarded: 12, resetTableFull: 0 },
  received: 20,
  flowCapacity: 1000,
  outerTooBig: 2,
  workers: [{ ...WORKER, received: 15, dropped: 0, flows: 0 }, WORKER],
};

export interface Numbers {
  readonly frontends: readonly FrontendCounters[];
  readonly servers: readonly ServerCounters[];
  readonly packets?: PacketCounters;
}

/** A source that answers from arrays, by index; proxy mode has no packets. */
export function sourceOf(mode: Mode, { frontends, servers, packets = PACKETS }: Numbers): Source {
  return {
    mode,
    hasPorts: MODES[mode].source === 'pool',
    frontend: (index) => frontends[index] ?? NONE,
    server: (index) => servers[index] ?? { ...NONE, load: 0 },
    ...(mode === 'fan-out' ? {} : { refusals: () => [0, 1, 2, 3, 0, 0, 0, 0, 4, 5, 6, 7, 0, 0, 0, 0, 13] }),
    ...(mode === 'proxy' ? { queued: (backend) => backend.length } : { packets: () => packets }),
  };
}

export function viewOf(more: Partial<View> = {}): View {
  const reload = { succeeded: 0, failed: 0, lastSucceeded: true, lastError: undefined, at: 1_700_000_000 };
  return {
    frontends: [],
    backends: [],
    retired: NOTHING,
    reload,
    host: [],
    logLinesLost: 0,
    discoveryFailing: 0,
    stopping: false,
    ...more,
  };
}

export function backendOf(name: string, servers: readonly ServerView[], more: Partial<BackendView> = {}): BackendView {
  return { name, protocol: 'tcp', servers, retired: NOTHING, ...more };
}

export function serverOf(name: string, index: number, more: Partial<ServerView> = {}): ServerView {
  const address = `10.0.${index >> 8}.${index & 255}:80`;
  const checks = { checkFailures: 0, checksUnmade: 0, checkChanges: 0, lastCheck: 'connected in 0.3 ms' };
  return { name, index, address, state: 'up', weight: 1, fileWeight: 1, backup: false, damped: false, ...checks, ...more };
}

export function countersOf(total: number, current = 0, bytesTx = 0, bytesRx = 0): ServerCounters {
  return { total, current, bytesTx, bytesRx, load: current };
}

export function frontendOf(name: string, index: number, more: Partial<FrontendView> = {}): FrontendView {
  return { name, protocol: 'tcp', index, ...more };
}
