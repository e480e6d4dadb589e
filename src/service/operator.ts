/** What operators order of a running lb4 (control/orders.ts). What they set goes the same way as the file and health: by a plan. */
import type { Config } from '../config/model.ts';
import { fansOut, type Mode } from '../config/modes.ts';
import {
  type Captured,
  type CaptureWanted,
  type Explanation,
  type FlowFilter,
  type FlowList,
  type Killed,
  OrderError,
  type Orders,
  type Reloaded,
  type ServerOrder,
  type ServerSet,
  type StatusAnswer,
  type Trace,
} from '../control/orders.ts';
import type { View } from '../control/source.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { Captures } from './captures.ts';
import type { DataPath } from './data-path.ts';
import type { Drains } from './drains.ts';
import { type ExplainParts, explain } from './explain.ts';
import { flowRows, queryOf } from './flow-names.ts';
import { type Plan, weightObstacle } from './plan.ts';
import type { Replanner } from './replan.ts';
import type { RuntimeSettings } from './runtime.ts';
import { serversNamed } from './server-names.ts';
import { trace } from './trace.ts';

export interface OperatorParts extends Omit<ExplainParts, 'path'> {
  readonly mode: Mode;
  readonly file: string;
  readonly version: string;
  readonly log: Pick<Logger, 'info'>;
  readonly path: DataPath;
  readonly replanner: Replanner<Plan>;
  readonly settings: RuntimeSettings;
  readonly drains: Pick<Drains, 'follow'>;
  readonly view: () => View;
  /** As it was last taken over. */
  readonly config: () => Config;
  /** What is in effect, as TOML. */
  readonly effective: () => string;
  /** A plan of all that is known now. */
  readonly makePlan: () => Plan;
  readonly reload: () => Promise<Reloaded>;
  /** A server, by the key of its check, is to grow to its weight. */
  readonly startSlowly: (checkKey: string) => void;
}

const UNSEEN =
  'lb4 --fan-out sees no connections, which the kernel has; those of a process: ss -tn sport = :PORT; all, and to end them: conntrack -L, conntrack -D';

export class Operator implements Orders {
  readonly #parts: OperatorParts;
  readonly #captures: Captures;

  constructor(parts: OperatorParts) {
    this.#parts = parts;
    const { path, replanner } = parts;
    this.#captures = new Captures({ path, plan: () => replanner.plan, isStopped: () => replanner.isStopped });
  }

  get source(): DataPath {
    return this.#parts.path;
  }

  view(): View {
    return this.#parts.view();
  }

  about(): StatusAnswer {
    const { version, mode, file, config } = this.#parts;
    return { version, pid: process.pid, mode, file, uptime: Math.floor(process.uptime()), statistics: config().stats?.listen.text ?? null };
  }

  set(name: string, order: ServerOrder): Promise<ServerSet> {
    return this.#inTurn(() => this.#set(name, order));
  }

  explain(name: string): readonly Explanation[] {
    return serversNamed(name, this.#parts.replanner.plan).map((one) => explain(one, this.#parts));
  }

  trace(client: string, frontend: string): Promise<readonly Trace[]> {
    const { replanner } = this.#parts;
    return trace(client, frontend, { ...this.#parts, plan: replanner.plan, isStopping: replanner.isStopped });
  }

  async flows(filter: FlowFilter, limit: number): Promise<FlowList> {
    this.#assertSeen();
    const { replanner, path } = this.#parts;
    const { plan } = replanner;
    const { flows, more } = await path.flows(queryOf(filter, plan), limit);
    return { flows: flowRows(flows, plan), more };
  }

  async kill(filter: FlowFilter): Promise<Killed> {
    this.#assertSeen();
    // In turn: what an index stands for stays.
    return this.#inTurn(async () => {
      const { replanner, path, log } = this.#parts;
      const { ended, reset } = await path.endFlows(queryOf(filter, replanner.plan));
      log.info({ ...filter, ended, reset }, 'connections ended by control');
      return { killed: ended, reset };
    });
  }

  capture(wanted: CaptureWanted): Promise<Captured> {
    return this.#captures.start(wanted);
  }

  /** Ends what goes on for somebody who asked for it. */
  close(): Promise<void> {
    return this.#captures.close();
  }

  reload(): Promise<Reloaded> {
    return this.#parts.reload();
  }

  config(): string {
    return this.#parts.effective();
  }

  /** An empty list would say that there are none. */
  #assertSeen(): void {
    if (fansOut(this.#parts.mode)) throw new OrderError('refused', UNSEEN);
  }

  async #set(name: string, order: ServerOrder): Promise<ServerSet> {
    const { replanner, settings, drains, makePlan, startSlowly, log } = this.#parts;
    const all = serversNamed(name, replanner.plan);
    const [one] = all;
    if (one === undefined || one.server.draining) throw new OrderError('refused', `"${name}" has left the file, and drains`);
    const obstacle = order.weight === undefined ? undefined : weightObstacle(one.backend, one.server.server, order.weight);
    if (obstacle !== undefined) throw new OrderError('refused', obstacle);
    const was = one.server.setting;
    const takeBack = settings.set(one.backend, one.server.server, order);
    if (order.state === 'ready' && was?.state === 'down') for (const { server } of all) startSlowly(server.checkKey);
    try {
      await replanner.apply(makePlan());
    } catch (error) {
      takeBack();
      throw new OrderError('refused', `it could not be put in force, and nothing has changed: ${messageOf(error)}`);
    }
    drains.follow();
    const set = settings.of(one.backend, one.server.server) ?? null;
    log.info({ server: name, ...order }, 'set by control');
    return { server: name, set };
  }

  /** Does it when nothing else is under way; what it throws is the answer's. */
  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    let outcome: { readonly value: T } | { readonly error: unknown } | undefined;
    await this.#parts.replanner.inTurn(async () => {
      try {
        outcome = { value: await work() };
      } catch (error) {
        outcome = { error };
      }
    });
    if (outcome === undefined) throw new OrderError('refused', 'this lb4 stops, or another has taken over from it');
    if ('error' in outcome) throw outcome.error;
    return outcome.value;
  }
}
