/** What a worker's parts share. */
import type { GuardParts } from '../access/guard.ts';
import { connectionLimit } from './descriptors.ts';
import { EndingLog } from './endings.ts';
import type { Gauges, OwnMemory } from './memory.ts';
import type { FromWorker } from './messages.ts';

/** A server's failures are told at most so often: under load they come by the thousand. */
const TROUBLE_EVERY_MS = 100;
const WARN_EVERY_MS = 1000;

export class Context {
  readonly gauges: Gauges;
  /** So many connections at a time, of all frontends and workers. */
  readonly connectionLimit = connectionLimit();
  /** This worker's region. */
  readonly counters: Float64Array;
  /** Somebody waits for what another worker may free: polling begins. */
  readonly wait: () => void;
  readonly endings: EndingLog;
  /** What rules about clients are held by, and counted in. */
  readonly guards: GuardParts;
  readonly #tell: (message: FromWorker) => void;
  readonly #lastTrouble = new Map<number, number>();
  readonly #lastWarning = new Map<string, { at: number; unsaid: number }>();

  constructor(memory: OwnMemory, tell: (message: FromWorker) => void, wait: () => void) {
    this.gauges = memory.gauges;
    this.counters = memory.counters;
    this.guards = memory.guards;
    this.#tell = tell;
    this.wait = wait;
    this.endings = new EndingLog((endings) => tell({ type: 'ended', endings }));
  }

  /** A connect to a server failed, and it is the server's fault or the network's. */
  signal(server: number, reason: string): void {
    const now = performance.now();
    if (now - (this.#lastTrouble.get(server) ?? -TROUBLE_EVERY_MS) < TROUBLE_EVERY_MS) return;
    this.#lastTrouble.set(server, now);
    this.#tell({ type: 'signal', server, reason });
  }

  /** Logs, each message at most once a second with the number of those left out since. */
  warn(fields: object, message: string): void {
    const now = performance.now();
    const last = this.#lastWarning.get(message);
    if (last !== undefined && now - last.at < WARN_EVERY_MS) {
      last.unsaid++;
      return;
    }
    this.#lastWarning.set(message, { at: now, unsaid: 0 });
    this.#tell({ type: 'warn', fields: { ...fields, ...(last?.unsaid ? { unsaid: last.unsaid } : {}) }, message });
  }
}
