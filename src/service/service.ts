/**
 * A running lb4: configuration, health, data path and statistics, held together. Whatever changes (the file, a server's health,
 * a slow start's step, the end of a drain) becomes a new plan, and the data path is told the whole of it.
 *
 *     file ──► config ─┐
 *     checks ─► health ─┼─► plan ──► data path (packets or proxy) ──► counters ──► statistics
 *     passing traffic ──┘  (rosters, slow starts)
 */

import { loadConfig } from '../config/load.ts';
import type { Config, Frontend } from '../config/model.ts';
import { restartOnly } from '../config/restart.ts';
import { ConfigError, formatMistake } from '../errors.ts';
import { type Change, HealthChecker } from '../health/checker.ts';
import type { Logger } from '../log.ts';
import type { DataPath, Reports } from './data-path.ts';
import { DeadEnds } from './dead-ends.ts';
import { Guard } from './guard.ts';
import { assertHost, explain, isOwn, sourceOf } from './host.ts';
import { HostChanges } from './host-changes.ts';
import { Listening } from './listening.ts';
import { PacketPath } from './packet-path.ts';
import { frontendMembers, type ModeName, makePlan, type Place, type Plan, serverMembers } from './plan.ts';
import { ProxyPath } from './proxy-path.ts';
import { Roster } from './roster.ts';
import { SlowStart } from './slow-start.ts';
import { StatsPort } from './stats-port.ts';
import { targetsOf } from './targets.ts';
import { ReloadHistory, viewOf } from './view.ts';

export interface ServiceOptions {
  /** The TOML file. */
  readonly file: string;
  readonly mode: ModeName;
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

/** How often drains are looked at while there are any. */
const SETTLE_MS = 500;
/** A plan that was refused is tried again after so long. */
const RETRY_MS = 1000;

export class Service {
  readonly #options: ServiceOptions;
  readonly #health: HealthChecker;
  readonly #frontends = new Roster<Frontend>((index) => this.#path.frontend(index));
  readonly #servers = new Roster<Place>((index) => this.#path.server(index));
  readonly #slowStart = new SlowStart();
  readonly #history = new ReloadHistory();
  readonly #stats: StatsPort;
  readonly #listening: Listening;
  readonly #deadEnds: DeadEnds;
  #config!: Config;
  #path!: DataPath;
  #hostChanges: HostChanges | undefined;
  #guard: Guard | undefined;
  /** What sizes and threads were made by. */
  #startConfig!: Config;
  /** The one that the data path goes by. */
  #plan: Plan | undefined;
  /** Of its servers, by index. */
  #serverKeys: ReadonlyMap<number, string> = new Map();
  /** Work on the data path is done one piece after the other. */
  #queue: Promise<unknown> = Promise.resolve();
  #refreshTimer: NodeJS.Timeout | undefined;
  /** Not before then, on the monotonic clock. */
  #nextRefresh = 0;
  #settleTimer: NodeJS.Timeout | undefined;
  #stepTimer: NodeJS.Timeout | undefined;
  #stopping = false;

  private constructor(options: ServiceOptions) {
    this.#options = options;
    this.#health = new HealthChecker({ log: options.log, onChange: (change) => this.#healthChanged(change) });
    this.#listening = new Listening({ mode: options.mode, health: this.#health, log: options.log });
    this.#deadEnds = new DeadEnds(options.log);
    this.#stats = new StatsPort(() => ({
      source: this.#path,
      view: () => this.#view(),
      version: options.version,
      failed: (error) => options.log.error({ error: String(error) }, 'statistics'),
    }));
  }

  /** Starts everything. Rejects with an Lb4Error when it cannot; then everything that was begun is undone. */
  static async start(options: ServiceOptions): Promise<Service> {
    const service = new Service(options);
    try {
      await service.#start();
      return service;
    } catch (error) {
      await service.stop(0, AbortSignal.abort()).catch(() => {});
      throw explain(error);
    }
  }

  /** What the file asks for, as it was last taken over. */
  get config(): Config {
    return this.#config;
  }

  /** Reads the file again and takes it over. Never rejects: a bad file keeps everything as it is, and the log says why. */
  reload(): Promise<void> {
    return this.#inTurn(async () => {
      // Whatever the file says: who asks for a reload wants lb4 to work.
      await this.#guard?.check();
      await this.#reload();
    });
  }

  /** Stops: no new connections; running ones may go on for `graceMs`, or until `hurry`, where the mode can let them. */
  async stop(graceMs: number, hurry: AbortSignal): Promise<void> {
    this.#stopping = true;
    this.#hostChanges?.stop();
    await this.#guard?.stop();
    // A reload under way ends first: it sets checks and timers.
    await this.#queue;
    this.#health.stop();
    this.#listening.stop();
    this.#deadEnds.stop();
    for (const timer of [this.#refreshTimer, this.#settleTimer, this.#stepTimer]) clearTimeout(timer);
    try {
      await this.#path?.stop(graceMs, hurry);
    } finally {
      await this.#stats.close();
    }
  }

  async #start(): Promise<void> {
    const { mode, log, rules, failed } = this.#options;
    const config = this.#load({ reload: false });
    this.#config = config;
    this.#startConfig = config;
    this.#enrol(config);
    const plan = this.#makePlan(config);
    const trouble = (server: number, reason: string) => this.#suspect(server, reason);
    const reports: Reports = { trouble, failed, log };
    this.#path = mode === 'proxy' ? await ProxyPath.start(plan, reports) : await PacketPath.start(plan, { mode, rules }, reports);
    this.#follow(plan);
    this.#health.set(targetsOf(config, mode));
    await this.#stats.move(config.stats?.listen);
    this.#guard = new Guard({ states: this.#path.hostStates, log, inTurn: (work) => this.#inTurn(work) });
    this.#guard.start();
    this.#listening.start(this.#path, () => this.#plan);
    this.#deadEnds.start(this.#path, () => this.#plan);
    this.#followHost();
  }

  #followHost(): void {
    const follow = this.#path.follow?.bind(this.#path);
    if (follow === undefined) return;
    this.#hostChanges = new HostChanges({ follow, inTurn: (work) => this.#inTurn(work) });
  }

  /** Throws an Lb4Error when the file is wrong, or this host cannot serve it. */
  #load({ reload }: { reload: boolean }): Config {
    const { file, mode, log } = this.#options;
    const { config, warnings } = loadConfig(file, { mode, reload, isOwn, sourceTowards: sourceOf });
    if (mode !== 'proxy') assertHost(config);
    for (const warning of warnings) log.warn(formatMistake(warning));
    return config;
  }

  async #reload(): Promise<void> {
    const { log } = this.#options;
    if (this.#stopping) return;
    try {
      const config = this.#load({ reload: true });
      for (const key of restartOnly(this.#startConfig, config)) log.warn({ key }, 'this key changes only with a restart');
      await this.#takeOver(config);
      this.#history.succeed();
      log.info({ frontends: config.frontends.length, backends: config.backends.length }, 'configuration reloaded');
    } catch (error) {
      const reason = explain(error);
      const mistakes = reason instanceof ConfigError ? reason.mistakes : [];
      const said = mistakes.length > 0 ? mistakes.map(formatMistake) : [String((reason as Error).message)];
      this.#history.fail(said[0] ?? '');
      said.forEach((line, i) => log[mistakes[i]?.severity === 'warning' ? 'warn' : 'error'](line));
      log.error('reload failed: the running configuration stays as it is');
    }
  }

  /** All or nothing: what can fail comes first, and is taken back when something after it fails. */
  async #takeOver(config: Config): Promise<void> {
    const takeBack = this.#enrol(config);
    const plan = this.#makePlan(config);
    try {
      await this.#stats.move(config.stats?.listen);
      await this.#path.apply(plan);
    } catch (error) {
      takeBack();
      await this.#stats.move(this.#config.stats?.listen).catch((cause) => this.#complain(cause));
      throw error;
    }
    this.#config = config;
    this.#follow(plan);
    this.#health.set(targetsOf(config, this.#options.mode));
    this.#settle();
  }

  #enrol(config: Config): () => void {
    const now = performance.now();
    const undo = [this.#frontends.set(frontendMembers(config), now), this.#servers.set(serverMembers(config), now)];
    return () => undo.forEach((step) => step());
  }

  #makePlan(config: Config): Plan {
    const now = performance.now();
    // A server whose first check is still under way counts as up: a restart must not refuse connections.
    const standing = {
      state: (key: string) => this.#health.state(key),
      isSpare: (key: string) => this.#health.damped(key),
      share: (key: string) => this.#slowStart.share(key, now),
    };
    return makePlan(config, this.#options.mode, this.#frontends.entries(), this.#servers.entries(), standing, this.#plan);
  }

  /**
   * Tells the data path what changed other than the file, at once. But plans with large lookup tables take long to make: the next one
   * waits so long that they take a quarter of this thread at most, and many changes then make one plan.
   */
  #refresh(): void {
    if (this.#refreshTimer !== undefined || this.#stopping) return;
    this.#refreshTimer = setTimeout(
      () =>
        void this.#inTurn(async () => {
          this.#refreshTimer = undefined;
          await this.#renew();
        }),
      Math.max(0, this.#nextRefresh - performance.now()),
    );
  }

  /** Applies what is known by now. Where that fails (say, iptables is locked) it is tried again. */
  async #renew(): Promise<void> {
    if (this.#stopping) return;
    const began = performance.now();
    try {
      const plan = this.#makePlan(this.#config);
      this.#nextRefresh = performance.now() + 3 * (performance.now() - began);
      await this.#path.apply(plan);
      this.#follow(plan);
    } catch (error) {
      this.#complain(error);
      this.#nextRefresh = performance.now() + RETRY_MS;
      this.#refresh();
    }
  }

  /** The data path goes by this plan now. */
  #follow(plan: Plan): void {
    this.#plan = plan;
    this.#serverKeys = new Map(plan.backends.flatMap(({ servers }) => servers.map(({ index, key }) => [index, key])));
  }

  #complain(error: unknown): void {
    this.#options.log.error({ error: String(error) }, 'could not apply a change');
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#queue.then(work).catch((error) => this.#complain(error));
    this.#queue = done;
    return done;
  }

  #healthChanged(change: Change): void {
    const { target, from, to, reason, suspected } = change;
    // First: nothing that is only told may keep a change from being made.
    this.#refresh();
    const fields = { server: target.id, reason, suspected };
    if (to === 'down') this.#options.log.warn(fields, 'server down');
    else this.#options.log.info(fields, from === 'unknown' ? 'server up' : 'server up again');
    // A server that is up at its first check was so all along.
    if (from === 'down') this.#startSlowly(target.id);
  }

  #startSlowly(key: string): void {
    this.#slowStart.begin(key, performance.now(), this.#servers.get(key)?.item.backend.slowStartMs ?? 0);
    this.#step();
  }

  #step(): void {
    const wait = this.#slowStart.nextStep(performance.now());
    clearTimeout(this.#stepTimer);
    if (wait === undefined || this.#stopping) return;
    this.#stepTimer = setTimeout(() => {
      this.#refresh();
      this.#step();
    }, wait + 1);
  }

  /** Looks after what left the file until its last connection has ended. */
  #settle(): void {
    clearTimeout(this.#settleTimer);
    if (this.#stopping || !(this.#frontends.isSettling || this.#servers.isSettling)) return;
    const expire = async () => {
      const now = performance.now();
      const left = [
        this.#frontends.expire(now, (index) => this.#path.frontend(index).load),
        this.#servers.expire(now, (index) => this.#path.server(index).load),
      ];
      if (left.includes(true)) await this.#renew();
      this.#settle();
    };
    this.#settleTimer = setTimeout(() => void this.#inTurn(expire), SETTLE_MS);
  }

  /** Signs come by the thousand when many servers die at once. */
  #suspect(server: number, reason: string): void {
    const key = this.#serverKeys.get(server);
    if (key !== undefined) this.#health.suspect(key, reason);
  }

  #view() {
    return viewOf({
      plan: this.#plan as Plan,
      health: this.#health,
      frontends: this.#frontends,
      servers: this.#servers,
      reload: this.#history,
      host: this.#guard?.view ?? [],
      listening: this.#listening,
      deadEnds: this.#deadEnds,
      logLinesLost: this.#options.logLinesLost(),
      stopping: this.#stopping,
    });
  }
}
