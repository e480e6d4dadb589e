/**
 * A running lb4: configuration, health, data path and statistics, held together. Whatever changes (the file, a server's health,
 * a slow start's step, the end of a drain) becomes a new plan, and the data path is told the whole of it.
 *
 *     file ──► config ─┐
 *     checks ─► health ─┼─► plan ──► data path (packets or proxy) ──► counters ──► statistics
 *     passing traffic ──┘  (rosters, slow starts)
 */

import type { Config } from '../config/model.ts';
import { isPacketMode, type Mode } from '../config/modes.ts';
import { restartOnly } from '../config/restart.ts';
import { type Change, HealthChecker } from '../health/checker.ts';
import type { Logger } from '../log.ts';
import type { DataPath, Reports } from './data-path.ts';
import { Drains } from './drains.ts';
import { explain } from './host.ts';
import { Members } from './members.ts';
import { MembersFile, membersAfter } from './members-file.ts';
import { Monitors } from './monitors.ts';
import { canGoOn, PacketPath, type PacketPathOptions } from './packet-path.ts';
import { makePlan, type Plan, UNCHECKED } from './plan.ts';
import { ProxyPath } from './proxy-path.ts';
import { logFailure, ReloadHistory, readConfig } from './reload.ts';
import { Replanner } from './replan.ts';
import { RampTimer, SlowStart } from './slow-start.ts';
import { StatsPort } from './stats-port.ts';
import { targetsOf } from './targets.ts';
import { viewOf } from './view.ts';

export interface ServiceOptions {
  /** The TOML file. */
  readonly file: string;
  readonly mode: Mode;
  /** False: the user looks after the firewall rules. */
  readonly rules: boolean;
  /** lb4's own. */
  readonly version: string;
  readonly log: Logger;
  /** Lines of `log` that were lost so far. */
  readonly logLinesLost: () => number;
  /** The data path died: nothing is forwarded any more. */
  readonly failed: (error: Error) => void;
}

type PathOptions = ServiceOptions & Pick<PacketPathOptions, 'remember'>;

/** What a service is made of: the configuration's members, and a data path that goes by their first plan. */
interface ServiceParts {
  readonly config: Config;
  readonly members: Members;
  readonly plan: Plan;
  readonly path: DataPath;
}

export class Service {
  readonly #options: ServiceOptions;
  /** What sizes and threads were made by. */
  readonly #startConfig: Config;
  readonly #members: Members;
  readonly #path: DataPath;
  readonly #health: HealthChecker;
  readonly #slowStart = new SlowStart();
  readonly #replanner: Replanner<Plan>;
  readonly #rampTimer: RampTimer;
  readonly #drains: Drains;
  readonly #monitors: Monitors;
  readonly #history = new ReloadHistory();
  readonly #stats: StatsPort;
  #config: Config;

  private constructor(options: ServiceOptions, { config, members, plan: first, path }: ServiceParts) {
    const { mode, log, version } = options;
    this.#options = options;
    this.#startConfig = config;
    this.#config = config;
    this.#members = members;
    this.#path = path;
    this.#health = new HealthChecker({ log, onChange: (change) => this.#healthChanged(change) });
    this.#replanner = new Replanner({
      first,
      make: () => this.#makePlan(this.#config),
      apply: (plan) => path.apply(plan),
      complain: (error) => this.#complain(error),
    });
    this.#rampTimer = new RampTimer(this.#slowStart, () => this.#replanner.request());
    this.#drains = new Drains({ members, path, replanner: this.#replanner });
    this.#monitors = new Monitors({ mode, path, health: this.#health, replanner: this.#replanner, log });
    const failed = (error: unknown) => log.error({ error: String(error) }, 'statistics');
    this.#stats = new StatsPort(() => ({ source: path, view: () => this.#view(), version, failed }));
  }

  /** Starts everything. Rejects with an Lb4Error when it cannot; then everything that was begun is undone. */
  static async start(options: ServiceOptions): Promise<Service> {
    try {
      const config = readConfig(options, { reload: false });
      const members = membersOf(config, options);
      const file = new MembersFile(members, options.log);
      const remember = () => file.save();
      const plan = makePlan(config, options.mode, members, UNCHECKED, undefined);
      // Each needs the other. What the data path hears before the service is there speaks against nobody: no check has begun.
      let service: Service | undefined;
      const path = await startPath(plan, { ...options, remember }, (server, reason) => {
        if (service !== undefined) service.#suspect(server, reason);
      });
      service = new Service(options, { config, members, plan, path });
      await service.#begin();
      return service;
    } catch (error) {
      throw explain(error, options.file);
    }
  }

  /** What the file asks for, as it was last taken over. */
  get config(): Config {
    return this.#config;
  }

  /** Reads the file again and takes it over. Never rejects: a bad file keeps everything as it is, and the log says why. */
  reload(): Promise<void> {
    return this.#replanner.inTurn(async () => {
      // Whatever the file says: who asks for a reload wants lb4 to work.
      await this.#monitors.checkHost();
      await this.#reload();
    });
  }

  /** Stops: no new connections; running ones may go on for `graceMs`, or until `hurry`, where the mode can let them. */
  stop(graceMs: number, hurry: AbortSignal): Promise<void> {
    return this.#end(() => this.#path.stop(graceMs, hurry));
  }

  /** Stops at once, since lb4 itself has failed: connections wait for the next lb4 where the mode can let them. */
  abandon(): Promise<void> {
    return this.#end(() => this.#abandonPath(true));
  }

  #abandonPath(hasServed: boolean): Promise<void> {
    return this.#path.abandon?.(hasServed) ?? this.#path.stop(0, AbortSignal.abort());
  }

  async #end(endPath: () => Promise<void>): Promise<void> {
    // A reload under way ends first: it sets checks and timers.
    await Promise.all([this.#replanner.stop(), this.#monitors.stop()]);
    this.#health.stop();
    this.#rampTimer.stop();
    this.#drains.stop();
    try {
      await endPath();
    } finally {
      await this.#stats.close();
    }
  }

  /** From now on checks, monitors and statistics run. Rejects when they cannot; then the data path, too, has stopped. */
  async #begin(): Promise<void> {
    try {
      await this.#stats.move(this.#config.stats?.listen);
    } catch (error) {
      await this.#end(() => this.#abandonPath(false)).catch(() => {});
      throw error;
    }
    this.#health.set(targetsOf(this.#config, this.#options.mode));
    this.#monitors.start();
    // Who was leaving when the last one died.
    this.#drains.follow();
  }

  async #reload(): Promise<void> {
    const { log } = this.#options;
    try {
      const config = readConfig(this.#options, { reload: true });
      for (const key of restartOnly(this.#startConfig, config)) log.warn({ key }, 'this key changes only with a restart');
      await this.#takeOver(config);
      this.#history.succeed();
      log.info({ frontends: config.frontends.length, backends: config.backends.length }, 'configuration reloaded');
    } catch (error) {
      this.#history.fail(logFailure(error, this.#options.file, log));
    }
  }

  /** All or nothing: what can fail comes first, and is taken back when something after it fails. */
  async #takeOver(config: Config): Promise<void> {
    const takeBack = this.#members.enrol(config);
    const plan = this.#makePlan(config);
    try {
      await this.#stats.move(config.stats?.listen);
      await this.#replanner.apply(plan);
    } catch (error) {
      takeBack();
      await this.#stats.move(this.#config.stats?.listen).catch((cause) => this.#complain(cause));
      throw error;
    }
    this.#config = config;
    this.#health.set(targetsOf(config, this.#options.mode));
    this.#drains.follow();
  }

  #makePlan(config: Config): Plan {
    const now = performance.now();
    const status = {
      state: (key: string) => this.#health.state(key),
      isSpare: (key: string) => this.#health.damped(key),
      share: (key: string) => this.#slowStart.share(key, now),
    };
    return makePlan(config, this.#options.mode, this.#members, status, this.#replanner.plan);
  }

  #complain(error: unknown): void {
    this.#options.log.error({ error: String(error) }, 'could not apply a change');
  }

  #healthChanged(change: Change): void {
    const { target, from, to, reason, suspected } = change;
    // First: nothing that is only told may keep a change from being made.
    this.#replanner.request();
    const fields = { server: target.id, reason, suspected };
    if (to === 'down') this.#options.log.warn(fields, 'server down');
    else this.#options.log.info(fields, from === 'unknown' ? 'server up' : 'server up again');
    // A server that is up at its first check was so all along.
    if (from === 'down') this.#startSlowly(target.id);
  }

  #startSlowly(key: string): void {
    this.#slowStart.begin(key, performance.now(), this.#members.servers.get(key)?.item.backend.slowStartMs ?? 0);
    this.#rampTimer.follow();
  }

  /** Signs come by the thousand when many servers die at once. */
  #suspect(server: number, reason: string): void {
    const key = this.#replanner.plan.serverKeys.get(server);
    if (key !== undefined) this.#health.suspect(key, reason);
  }

  #view() {
    return viewOf({
      plan: this.#replanner.plan,
      health: this.#health,
      members: this.#members,
      path: this.#path,
      reload: this.#history,
      monitors: this.#monitors,
      logLinesLost: this.#options.logLinesLost(),
      stopping: this.#replanner.isStopped,
    });
  }
}

/** As they were when an lb4 died here whose connections can go on. */
function membersOf(config: Config, { mode, log }: ServiceOptions): Members {
  return isPacketMode(mode) && canGoOn(config, mode) ? membersAfter(config, mode, log) : new Members(config);
}

function startPath(plan: Plan, { mode, rules, failed, log, remember }: PathOptions, signal: Reports['signal']): Promise<DataPath> {
  const reports: Reports = { signal, failed, log };
  return isPacketMode(mode) ? PacketPath.start(plan, { mode, rules, remember }, reports) : ProxyPath.start(plan, reports);
}
