/** A worker's view of a backend: which server a connection gets, and who waits while all are full. */
import { type Candidate, consistent, createScheduler, isSameChoice, leastLoaded, reserve, type Scheduler } from '../balance/index.ts';
import { type Endpoints, hashableAddress } from './address.ts';
import type { Context } from './context.ts';
import type { BackendPlan, ServerPlan } from './plan.ts';

/** A connection that wants a server. */
export interface PendingConnection {
  /** Servers, by index, that it could not reach. */
  readonly tried: ReadonlySet<number>;
  /** The client's address, for schedulers that hash it. */
  endpoints(): Endpoints | undefined;
  /** The server's load counts it from now on. */
  connect(server: ServerPlan): void;
  /** It has to wait: `refuse` or `connect` follow. */
  wait(): void;
  /** There is no server for it. */
  refuse(): void;
}

export class Backend {
  plan: BackendPlan;
  readonly #context: Context;
  /** Its place among the `queued` gauges. */
  readonly #row: number;
  /** Who waits here, first come first, and since when. Order between workers is by chance, as it is who polls first. */
  readonly #queue = new Map<PendingConnection, number>();
  #servers = new Map<number, ServerPlan>();
  #scheduler: Scheduler | undefined;

  constructor(context: Context, row: number, plan: BackendPlan) {
    this.#context = context;
    this.#row = row;
    this.plan = plan;
    this.apply(plan);
  }

  apply(plan: BackendPlan): void {
    // The same choice keeps its scheduler, and so its turn.
    if (this.#scheduler === undefined || !isSameChoice(plan.choice, this.plan.choice))
      this.#scheduler = createScheduler(plan.choice, this.#context.gauges.loads);
    this.plan = plan;
    this.#servers = new Map(plan.servers.map((server) => [server.index, server]));
    this.poll();
  }

  /** Whether somebody waits in this worker, so that it has to be polled. */
  get isWaitedFor(): boolean {
    return this.#queue.size > 0;
  }

  /** Connects, queues or refuses. A retry does not queue up behind those that came later. */
  place(pending: PendingConnection): void {
    const isRetry = pending.tried.size > 0;
    const candidates = this.#candidatesFor(pending);
    if (candidates.length === 0) return pending.refuse();
    if (isRetry || this.#queued() === 0) {
      const server = this.#reserve(pending, candidates);
      if (server !== undefined) return pending.connect(server);
    }
    if (!reserveQueue(this.#context.gauges.queued, this.#row, this.plan.maxQueue)) return pending.refuse();
    this.#queue.set(pending, performance.now());
    pending.wait();
  }

  /** Whether one that has tried some servers may try another, and there is one. */
  mayRetry(pending: PendingConnection): boolean {
    return pending.tried.size <= this.plan.retries && this.#candidatesFor(pending).length > 0;
  }

  /** One that waits has gone. */
  withdraw(pending: PendingConnection): void {
    if (this.#queue.delete(pending)) Atomics.sub(this.#context.gauges.queued, this.#row, 1);
  }

  /** A place at `server` is free again. Where other workers wait too, all have the same chance at their next poll. */
  release(server: number): void {
    Atomics.sub(this.#context.gauges.loads, server, 1);
    if (this.#queue.size > 0 && this.#queue.size === this.#queued()) this.poll();
  }

  /** Ends the wait of those that waited too long or for whom there is a server. */
  poll(): void {
    const latest = performance.now() - this.plan.queueTimeoutMs;
    for (const [pending, since] of this.#queue) {
      const candidates = this.#candidatesFor(pending);
      const server = since <= latest ? undefined : this.#reserve(pending, candidates);
      if (server === undefined && since > latest && candidates.length > 0) {
        // A retry may wait for servers that are not everybody's: those behind it may have more luck.
        if (pending.tried.size === 0) return;
        continue;
      }
      this.withdraw(pending);
      if (server === undefined) pending.refuse();
      else pending.connect(server);
    }
  }

  /** Refuses all who wait. */
  close(): void {
    for (const pending of this.#queue.keys()) {
      this.withdraw(pending);
      pending.refuse();
    }
  }

  #queued(): number {
    return Atomics.load(this.#context.gauges.queued, this.#row);
  }

  #candidatesFor({ tried }: PendingConnection): readonly Candidate[] {
    const { candidates } = this.plan.choice;
    return tried.size === 0 ? candidates : candidates.filter(({ index }) => !tried.has(index));
  }

  /** Counts the connection to the scheduler's choice, or to the least loaded if that is full; undefined when all are. */
  #reserve(pending: PendingConnection, candidates: readonly Candidate[]): ServerPlan | undefined {
    const { loads } = this.#context.gauges;
    let position = pending.tried.size === 0 ? this.#pick(pending) : leastLoaded(candidates, loads, -1);
    while (position >= 0) {
      const { index, maxconn } = candidates[position];
      if (reserve(loads, index, maxconn)) return this.#servers.get(index);
      position = leastLoaded(candidates, loads, position);
    }
    return undefined;
  }

  #pick(pending: PendingConnection): number {
    if (this.#scheduler === undefined) return -1;
    // The peer's address costs a system call.
    const endpoints = consistent.has(this.plan.choice.scheduler) ? pending.endpoints() : undefined;
    if (endpoints === undefined) return this.#scheduler.pick(0, 0);
    return this.#scheduler.pick(hashableAddress(endpoints.source), endpoints.sourcePort);
  }
}

/** Unlike elsewhere, 0 means none. */
function reserveQueue(queued: Int32Array, row: number, most: number): boolean {
  return most > 0 && reserve(queued, row, most);
}
