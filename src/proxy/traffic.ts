/** All that a worker has: its frontends, backends and connections, and the timers over them. */
import type { Socket } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import { refusalRow } from '../access/guard.ts';
import { Backend } from './backend.ts';
import { Connection } from './connection.ts';
import { Context } from './context.ts';
import type { End } from './endings.ts';
import { matcherOf, type ProxyFlow, type ProxyQuery } from './flow-list.ts';
import { FrontendListener } from './frontend-listener.ts';
import { clearRow, frontendRow, type OwnMemory, serverRow } from './memory.ts';
import type { Assignment, FromWorker } from './messages.ts';
import type { BackendPlan, FrontendPlan, ProxyPlan, ServerPlan } from './plan.ts';
import { reset } from './reset.ts';

/** Between two looks whether another worker has freed what a connection here waits for. Only while one waits. */
const POLL_MS = 2;
/** Timeouts are checked so often, or four times in the shortest of them. */
const SWEEP_MS = 1000;
const SHORTEST_SWEEP_MS = 20;

export class Traffic {
  readonly #context: Context;
  readonly #frontends = new Map<number, FrontendListener>();
  readonly #backends = new Map<string, Backend>();
  readonly #connections = new Set<Connection>();
  /** Whose the rows of counters are, by index. */
  #frontendOwners: ReadonlyMap<number, string> = new Map();
  #serverOwners: ReadonlyMap<number, string> = new Map();
  #poll: NodeJS.Timeout | undefined;
  #sweep: NodeJS.Timeout | undefined;
  #sweepEvery = 0;
  #grace: NodeJS.Timeout | undefined;
  #emptied: (() => void) | undefined;

  constructor(memory: OwnMemory, tell: (message: FromWorker) => void) {
    this.#context = new Context(memory, tell, () => this.#startPolling());
  }

  /** Makes the plan what is done. What it no longer names is gone on return, counters that it names anew are 0. */
  apply(assignment: Assignment): void {
    this.#applyEndings(assignment.plan);
    // Backends first: what the removals let in must go to the new plan's servers.
    this.#applyBackends(assignment);
    this.#remove(assignment.plan);
    this.#clearNewRows(assignment.plan);
    this.#applyFrontends(assignment);
    this.#setSweep(assignment.plan);
  }

  /** Accepts nothing any more; calls back when the last connection has ended, at the latest after `graceMs`. */
  stop(graceMs: number, stopped: () => void): void {
    for (const frontend of this.#frontends.values()) {
      if (graceMs > 0) frontend.retire();
      else frontend.close();
    }
    this.#emptied = () => {
      this.#emptied = undefined;
      for (const timer of [this.#grace, this.#sweep, this.#poll]) clearTimeout(timer);
      this.#context.endings.flush();
      stopped();
    };
    clearTimeout(this.#grace);
    this.#grace = setTimeout(() => this.#abort('stopped', () => true), graceMs);
    if (this.#connections.size === 0) this.#emptied();
  }

  /** Of the connections that are meant, `limit` at most. */
  flows(query: ProxyQuery, limit: number): ProxyFlow[] {
    const isMeant = matcherOf(query);
    const flows: ProxyFlow[] = [];
    for (const connection of this.#connections) {
      if (flows.length === limit) break;
      if (isMeant(connection)) flows.push(connection.describe(performance.now()));
    }
    return flows;
  }

  /** Resets the connections that are meant, and returns how many they were. */
  end(query: ProxyQuery): number {
    const meant = [...this.#connections].filter(matcherOf(query));
    for (const connection of meant) connection.abort('killed');
    return meant.length;
  }

  /** Those that are there: a closed socket has forgotten whose it was. */
  #applyEndings({ endings }: ProxyPlan): void {
    const wasOn = this.#context.endings.isOn;
    this.#context.endings.apply(endings);
    if (!wasOn && endings !== undefined) for (const connection of this.#connections) connection.note();
  }

  #applyBackends({ plan, queueRows }: Assignment): void {
    for (const backend of plan.backends) {
      const known = this.#backends.get(backend.name);
      if (known !== undefined) known.apply(backend);
      else this.#backends.set(backend.name, new Backend(this.#context, queueRows.get(backend.name)!, backend));
    }
  }

  #applyFrontends({ plan, listeners }: Assignment): void {
    const changed = new Set<FrontendListener>();
    for (const frontend of plan.frontends) {
      const known = this.#frontends.get(frontend.index);
      const one = known ?? new FrontendListener(this.#context, frontend, (client, of) => this.#accepted(client, of));
      this.#frontends.set(frontend.index, one);
      if (!isDeepStrictEqual(limitsOf(one.plan), limitsOf(frontend))) changed.add(one);
      one.apply(frontend, listeners.get(frontend.index));
    }
    if (changed.size === 0) return;
    for (const connection of this.#connections) if (changed.has(connection.frontend)) connection.recount();
  }

  #remove(plan: ProxyPlan): void {
    const frontends = frontendOwners(plan);
    const servers = serverOwners(plan);
    const backends = new Set(plan.backends.map(({ name }) => name));
    for (const [index, frontend] of this.#frontends) {
      if (frontends.get(index) === frontendOwner(frontend.plan)) continue;
      frontend.close();
      this.#frontends.delete(index);
    }
    this.#abort('gone', ({ frontend, backend, server }) => {
      const isKnown = this.#frontends.get(frontend.plan.index) === frontend && backends.has(backend.plan.name);
      return !isKnown || (server !== undefined && servers.get(server.index) !== serverOwner(backend.plan, server));
    });
    for (const name of this.#backends.keys()) if (!backends.has(name)) this.#backends.delete(name);
  }

  /** Nothing of the new holders was counted yet: connections are established, and connects fail, in later turns of the loop. */
  #clearNewRows(plan: ProxyPlan): void {
    const { counters, guards } = this.#context;
    const frontends = frontendOwners(plan);
    const servers = serverOwners(plan);
    for (const [index, owner] of frontends) {
      if (this.#frontendOwners.get(index) === owner) continue;
      clearRow(counters, frontendRow(index));
      guards.refusals.fill(0, refusalRow(index), refusalRow(index + 1));
    }
    for (const [index, owner] of servers) if (this.#serverOwners.get(index) !== owner) clearRow(counters, serverRow(index));
    this.#frontendOwners = frontends;
    this.#serverOwners = servers;
  }

  #abort(how: End, isMeant: (connection: Connection) => boolean): void {
    for (const connection of this.#connections) if (isMeant(connection)) connection.abort(how);
  }

  #accepted(client: Socket, frontend: FrontendListener): void {
    const backend = this.#backends.get(frontend.plan.backend);
    if (backend === undefined) {
      reset(client);
      frontend.release();
      return;
    }
    const connection = new Connection(this.#context, frontend, backend, client, (ended) => this.#ended(ended));
    this.#connections.add(connection);
    connection.start();
  }

  #ended(connection: Connection): void {
    this.#connections.delete(connection);
    if (this.#connections.size === 0) this.#emptied?.();
  }

  #startPolling(): void {
    this.#poll ??= setInterval(() => {
      let waits = false;
      for (const one of [...this.#backends.values(), ...this.#frontends.values()]) {
        if (!one.isWaitedFor) continue;
        one.poll();
        waits ||= one.isWaitedFor;
      }
      if (waits) return;
      clearInterval(this.#poll);
      this.#poll = undefined;
    }, POLL_MS);
  }

  /** Left alone while nothing changes: plans may come faster than it turns. */
  #setSweep({ frontends, backends }: ProxyPlan): void {
    const timeouts = [...frontends.map((f) => f.clientTimeoutMs), ...backends.map((b) => b.serverTimeoutMs)].filter((ms) => ms > 0);
    const every = Math.max(SHORTEST_SWEEP_MS, Math.min(SWEEP_MS, ...timeouts.map((ms) => ms / 4)));
    if (every === this.#sweepEvery) return;
    this.#sweepEvery = every;
    clearInterval(this.#sweep);
    this.#sweep = setInterval(() => {
      const now = performance.now();
      this.#abort('idle', (connection) => connection.isIdle(now));
      for (const frontend of this.#frontends.values()) frontend.sweep();
    }, every);
  }
}

/** By which connections are counted with their sources. */
function limitsOf({ access }: FrontendPlan) {
  return access && [access.sourceMaxconn > 0, access.sourceBits];
}

function frontendOwners({ frontends }: ProxyPlan): ReadonlyMap<number, string> {
  return new Map(frontends.map((frontend) => [frontend.index, frontendOwner(frontend)]));
}

function serverOwners({ backends }: ProxyPlan): ReadonlyMap<number, string> {
  return new Map(backends.flatMap((backend) => backend.servers.map((server) => [server.index, serverOwner(backend, server)])));
}

/** Who has an index: with another name or at another address it is somebody else. */
function frontendOwner({ name, host, port }: FrontendPlan): string {
  return JSON.stringify([name, host, port]);
}

/** Likewise; two backends may have servers of one name. */
function serverOwner(backend: BackendPlan, { name, host, port }: ServerPlan): string {
  return JSON.stringify([backend.name, name, host, port]);
}
