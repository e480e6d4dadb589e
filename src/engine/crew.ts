/** All packet workers as one. Each has a ring of its own; the kernel steers every frame to the worker whose it is (io/steering.ts). */
import { closeSync } from 'node:fs';
import { native } from '../io/native.ts';
import { steeringProgram } from '../io/steering.ts';
import type { HashKey } from '../layout/memory.ts';
import { type Ours, steeringKey } from '../packet/steering.ts';
import { oursIn } from './filter.ts';
import type { Orders, RingData, ToWorker, WorkerData } from './messages.ts';
import { type Forwarder, Thread, type ThreadReports, WaitingThread } from './thread.ts';

export interface CrewOptions {
  /** How many. */
  readonly workers: number;
  /** The processors that they are pinned to, in turn; undefined: wherever the kernel likes. */
  readonly cpus: readonly number[] | undefined;
  /** Of the table that they will have. */
  readonly key: HashKey;
  readonly ring: Omit<RingData, 'turn' | 'worker' | 'workers' | 'cpu'>;
  /** What the first settings steer by. */
  readonly ours?: Ours | undefined;
}

/** Workers that have their rings, and wait for their turn. */
export class WaitingCrew {
  readonly #threads: readonly WaitingThread[];
  readonly #places: Places;

  private constructor(threads: readonly WaitingThread[], places: Places) {
    this.#threads = threads;
    this.#places = places;
  }

  /** Rejects with the system's error when a ring cannot be opened, or frames cannot be steered; then all are gone. */
  static async open({ workers, cpus, key, ring, ours }: CrewOptions): Promise<WaitingCrew> {
    const opening = Array.from({ length: workers }, (_, worker) => {
      return WaitingThread.open({ ...ring, worker, workers, cpu: cpus?.[worker % cpus.length] });
    });
    try {
      const threads = await allOf(opening);
      // Before a frame arrives: till now their filters take none. An lb4 that is to be followed misses fragments from here on, for which a
      // client or server sends again; to find out only after it has stopped that it cannot be followed would be worse.
      // Between interfaces fragments go on as they came.
      return new WaitingCrew(threads, Places.take(ring.takesAll ? [] : threads, key, ours));
    } catch (error) {
      for (const one of await Promise.allSettled(opening)) if (one.status === 'fulfilled') await one.value.close();
      throw error;
    }
  }

  /** Nobody else forwards any more: frames wait in their rings from now on. */
  listen(): void {
    for (const thread of this.#threads) thread.listen();
  }

  /** Resolves when all forward. Rejects with the system's error when one cannot; then all are gone. */
  async begin(data: Omit<WorkerData, 'worker'>, reports: ThreadReports): Promise<Forwarder> {
    const beginning = this.#threads.map((thread, worker) => Thread.start(thread, { ...data, worker }, reports));
    try {
      const threads = await allOf(beginning);
      const dead = threads.find(({ error }) => error !== undefined);
      // One that was ready first, and has not lived until the last one was.
      if (dead?.error !== undefined) throw dead.error;
      for (const thread of threads) thread.forward();
      return new Crew(threads, this.#places);
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.close()));
    this.#places.leave();
  }
}

/**
 * The workers' places among which the kernel shares frames out. A worker that has stopped, or died, keeps its own until all have: otherwise
 * the last one would get it, and answer frames of connections that it does not know by resets.
 */
class Places {
  #fds: readonly number[];
  readonly #key: number;
  #ours: Ours | undefined;

  private constructor(fds: readonly number[], key: number, ours: Ours | undefined) {
    this.#fds = fds;
    this.#key = key;
    this.#ours = ours;
  }

  static take(threads: readonly WaitingThread[], hashKey: HashKey, ours: Ours | undefined): Places {
    const key = steeringKey(hashKey);
    const fds = threads.map(({ fd }) => fd);
    if (fds.length === 0) return new Places([], key, ours);
    const program = fds.length === 1 ? undefined : steeringProgram(key, fds.length, ours);
    return new Places(native().fanOut(fds, program), key, ours);
  }

  /**
   * Steers by what both these settings and those that are to follow know as lb4's own, until these are over: then by `ours` alone. So no frame
   * of a connection that goes on changes its worker.
   * @throws RangeError where there are too many, or the system's error; then nothing has changed
   */
  prepare(ours: Ours | undefined): void {
    const last = this.#ours;
    if (last === undefined || ours === undefined) return this.#steer(ours ?? last);
    this.#steer(new Set([...last, ...ours]));
  }

  /** Those settings are over. */
  settle(ours: Ours | undefined): void {
    this.#steer(ours);
  }

  #steer(ours: Ours | undefined): void {
    if (this.#fds.length < 2 || isSame(ours, this.#ours)) return;
    native().steer(this.#fds[0], steeringProgram(this.#key, this.#fds.length, ours));
    this.#ours = ours;
  }

  leave(): void {
    for (const fd of this.#fds) closeSync(fd);
    this.#fds = [];
  }
}

/** Workers that forward. */
class Crew implements Forwarder {
  readonly recovered: number;
  readonly pulses: Forwarder['pulses'];
  readonly #threads: readonly Thread[];
  readonly #places: Places;

  constructor(threads: readonly Thread[], places: Places) {
    this.#threads = threads;
    this.#places = places;
    this.pulses = threads.flatMap((thread) => thread.pulses);
    this.recovered = threads.reduce((sum, thread) => sum + thread.recovered, 0);
  }

  usesSource(address: number): boolean {
    return this.#threads.some((thread) => thread.usesSource(address));
  }

  async apply(orders: Orders): Promise<void> {
    const ours = oursIn(orders.settings.services);
    this.#places.prepare(ours);
    await Promise.all(this.#threads.map((thread) => thread.apply(orders)));
    this.#places.settle(ours);
  }

  post(message: ToWorker): void {
    for (const thread of this.#threads) thread.post(message);
  }

  postTo(worker: number, message: ToWorker): void {
    this.#threads[worker]?.post(message);
  }

  giveUp(): void {
    for (const thread of this.#threads) thread.giveUp();
  }

  /** The places go with the process, which ends soon: to close a socket takes the kernel milliseconds, and packets wait for the next lb4. */
  async halt(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.halt()));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.stop()));
    this.#places.leave();
  }
}

/** As Promise.all, but settled when all are. */
async function allOf<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}

function isSame(a: Ours | undefined, b: Ours | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.size === b.size && [...a].every((address) => b.has(address));
}
