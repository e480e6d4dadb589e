/** The connection log of a running lb4: connections that have ended, by the names that the file has for who they were of. */
import type { ConnectionLog as Keys } from '../config/model.ts';
import { ConnectionLog, type ConnectionLogCounters, type LeftOut } from '../connlog/connection-log.ts';
import type { Ended } from '../connlog/line.ts';
import type { Logger } from '../log.ts';
import type { EndedFlow } from './data-path.ts';
import { namesIn } from './flow-names.ts';
import type { Plan } from './plan.ts';

export class EndedConnections {
  readonly #log: ConnectionLog;
  /** By index. Who is gone keeps its name until somebody else has the index. */
  readonly #frontends = new Map<number, string>();
  readonly #servers = new Map<number, string>();
  /** What part of them the file wants. */
  #share = 1;

  constructor(log: Logger) {
    this.#log = new ConnectionLog(log);
  }

  /** What the file asks for; undefined: no connection log. */
  apply(keys: Keys | undefined): void {
    this.#share = keys?.sample ?? 1;
    this.#log.apply(keys && { target: keys.target, format: keys.format, rate: keys.rate });
  }

  /** Whoever has moved its file away wants another one. */
  reopen(): void {
    this.#log.reopen();
  }

  /** To be told of each plan before the data path is. */
  follow(plan: Plan): void {
    const { frontends, servers } = namesIn(plan);
    for (const [index, name] of frontends) this.#frontends.set(index, name);
    for (const [index, name] of servers) this.#servers.set(index, name);
  }

  /** What the file calls a frontend, by its index. */
  nameOf(frontend: number): string | undefined {
    return this.#frontends.get(frontend);
  }

  take(flows: readonly EndedFlow[], left: LeftOut): void {
    this.#log.take(
      flows.map((flow) => this.#named(flow)),
      left,
    );
  }

  /** So many end without a line, since lb4 stops; as many as it draws are told of. */
  tellStopped(connections: number): void {
    this.#log.tellStopped(Math.ceil(connections * this.#share));
  }

  /** Undefined: there was none yet. */
  get counters(): ConnectionLogCounters | undefined {
    return this.#log.counters;
  }

  close(): void {
    this.#log.close();
  }

  #named({ frontend, server, ageMs, quietMs, bytesTx: tx, bytesRx: rx, ...rest }: EndedFlow): Ended {
    const beganAt = ageMs === undefined ? undefined : Math.round(rest.at - ageMs);
    const seconds = ageMs === undefined ? undefined : Math.max(0, Math.round(ageMs - quietMs)) / 1000;
    return { ...rest, frontend: this.#frontends.get(frontend), server: this.#servers.get(server), beganAt, seconds, tx, rx };
  }
}

/**
 * What each of so many workers is to tell, as data paths have it: no more, all together, than may be written, for what they tell beyond it is the
 * main thread's work.
 */
export function endingOrders(keys: Keys | undefined, workers: number) {
  return keys && { share: keys.sample, rate: Math.ceil(keys.rate / workers), attempts: keys.attempts };
}
