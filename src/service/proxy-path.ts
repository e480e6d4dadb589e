/** Proxy mode as a data path. */
import { availableParallelism } from 'node:os';
import type { Config } from '../config/model.ts';
import type { ProxyQuery } from '../proxy/flow-list.ts';
import type { ProxyPlan } from '../proxy/plan.ts';
import { Proxy } from '../proxy/proxy.ts';
import { accessOf } from './access.ts';
import type { Book } from './books.ts';
import { Credits } from './credits.ts';
import type { CarriedQuery, DataPath, Reports } from './data-path.ts';
import { endingOrders } from './ended.ts';
import { rulesInTheWay } from './hand-rules.ts';
import { clearLeftovers } from './leftovers.ts';
import type { Plan, PlannedBackend } from './plan.ts';
import type { Takeover } from './takeover.ts';

export class ProxyPath implements DataPath {
  readonly mode = 'proxy';
  /** It changes nothing on the host, but others may. */
  readonly hostStates = [rulesInTheWay(() => this.#plan)];
  readonly #proxy: Proxy;
  readonly #credits: Credits;
  #plan: Plan;

  private constructor(proxy: Proxy, plan: Plan) {
    this.#proxy = proxy;
    this.#plan = plan;
    this.#credits = new Credits(plan);
  }

  /** Listens and starts to carry connections. Rejects with the system's error when an address cannot be listened on. */
  static async start(
    plan: Plan,
    { signal, failed, ended, log }: Reports,
    takeover?: Pick<Takeover, 'listeners' | 'take'>,
  ): Promise<ProxyPath> {
    await clearLeftovers(log);
    const proxy = await Proxy.start({
      plan: proxyPlanOf(plan),
      workers: workersOf(plan.config),
      signal,
      failed,
      ended: (endings) => ended(endings.ended.map(named), endings),
      log,
      listeners: takeover?.listeners,
    });
    await takeover?.take();
    return new ProxyPath(proxy, plan);
  }

  async apply(plan: Plan): Promise<void> {
    await this.#proxy.configure(proxyPlanOf(plan));
    this.#plan = plan;
    this.#credits.follow(plan);
  }

  giveUp(): void {
    this.#proxy.giveUp();
  }

  async stop(graceMs: number, hurry: AbortSignal): Promise<void> {
    hurry.addEventListener('abort', () => void this.#proxy.stop(0), { once: true });
    await this.#proxy.stop(hurry.aborted ? 0 : graceMs);
  }

  listeners(): ReadonlyMap<string, number> {
    return this.#proxy.listeners;
  }

  credit(book: Book): Book {
    return this.#credits.add(book);
  }

  frontend(index: number) {
    return this.#credits.frontend(index, this.#proxy.frontend(index));
  }

  refusals(index: number) {
    return this.#proxy.refusals(index);
  }

  server(index: number) {
    return this.#credits.server(index, this.#proxy.server(index));
  }

  async flows(query: CarriedQuery, limit: number) {
    const { flows, more } = await this.#proxy.flows(plainOf(query), limit);
    return { flows: flows.map(named), more };
  }

  async endFlows(query: CarriedQuery) {
    const ended = await this.#proxy.end(plainOf(query));
    return { ended, reset: ended };
  }

  get pulses() {
    return this.#proxy.pulses;
  }

  queued(backend: string): number {
    return this.#proxy.queued(backend);
  }
}

function workersOf({ proxy }: Config): number {
  return proxy.workers || availableParallelism();
}

function named<T extends object>(flow: T) {
  return { ...flow, protocol: 'tcp' };
}

/** As it crosses to them. */
function plainOf({ frontends, servers, client }: CarriedQuery): ProxyQuery {
  return { frontends: frontends && [...frontends], servers: servers && [...servers], client };
}

/** What the proxy's workers are told. */
export function proxyPlanOf({ config, frontends, backends }: Plan): ProxyPlan {
  return {
    endings: endingOrders(config.connectionLog, workersOf(config)),
    frontends: frontends.map(({ index, draining, frontend }) => {
      const { name, listen, backend, maxconn, acceptProxy, clientTimeoutMs } = frontend;
      const access = accessOf(frontend);
      const where = { host: listen.ip, port: listen.port, backend: backend.name };
      return { index, name, ...where, maxconn, acceptProxy, clientTimeoutMs, draining, ...(access && { access }) };
    }),
    backends: backends.map(backendOf),
  };
}

function backendOf({ backend, choice, servers }: PlannedBackend): ProxyPlan['backends'][number] {
  const { name, sendProxy, connectTimeoutMs, serverTimeoutMs, retries, maxQueue, queueTimeoutMs } = backend;
  return {
    name,
    choice,
    servers: servers.map(({ index, server }) => {
      return { index, name: server.name, host: server.addr.ip, port: server.addr.port, maxconn: server.maxconn };
    }),
    sendProxy,
    connectTimeoutMs,
    serverTimeoutMs,
    retries,
    maxQueue,
    queueTimeoutMs,
  };
}
