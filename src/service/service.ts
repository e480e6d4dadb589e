/**
 * A running lb4: configuration, health, data path and statistics, held together. Whatever changes (the file, a server's health,
 * a slow start's step, the end of a drain) becomes a new plan, and the data path is told the whole of it.
 *
 *     file ──► config ─┐
 *     checks ─► health ─┼─► plan ──► data path (packets or proxy) ──► counters ──► statistics
 *     passing traffic ──┘  (rosters, slow starts)
 */

import { resolve } from 'node:path';
import { type Keys, keysInEffect } from '../config/effective.ts';
import type { Backend, Config, Server } from '../config/model.ts';
import { fansOut, isPacketMode } from '../config/modes.ts';
import { restartOnly } from '../config/restart.ts';
import { renderKeys } from '../config/written.ts';
import type { Reloaded } from '../control/orders.ts';
import { REASONS } from '../engine/engine.ts';
import { messageOf } from '../errors.ts';
import { type Change, HealthChecker } from '../health/checker.ts';
import { echoThrough } from '../io/tunnel-echo.ts';
import { changeText, tellChanges } from './changes.ts';
import { ControlPort } from './control-port.ts';
import type { DataPath, Reports } from './data-path.ts';
import { Drains } from './drains.ts';
import { EndedConnections } from './ended.ts';
import { FanOutPath } from './fan-out-path.ts';
import { FirewallSets } from './firewall-sets.ts';
import { FoundServers } from './found-servers.ts';
import { GlbRanks } from './glb-ranks.ts';
import { HealthHold } from './health-hold.ts';
import { explain } from './host.ts';
import { Members } from './members.ts';
import { MembersFile, membersAfter } from './members-file.ts';
import { Monitors } from './monitors.ts';
import { Operator } from './operator.ts';
import { tellOuterPackets } from './outer-packets.ts';
import { canGoOn, PacketPath, type PacketPathOptions } from './packet-path.ts';
import { makePlan, type Plan, type ServerStatus, UNCHECKED } from './plan.ts';
import { ProxyPath } from './proxy-path.ts';
import { assertReloadable, foresee, logFailure, ReloadHistory, readConfig } from './reload.ts';
import { Replanner } from './replan.ts';
import { type Forgotten, RuntimeSettings, settingText } from './runtime.ts';
import { RampTimer, SlowStart } from './slow-start.ts';
import { StatsPort } from './stats-port.ts';
import { predecessor, type StartOptions, Succession, type SuccessionOptions } from './succession.ts';
import type { Takeover } from './takeover.ts';
import { leavingOf, targetsOf } from './targets.ts';
import { Vacancies } from './vacancies.ts';
import { viewOf } from './view.ts';

export interface ServiceOptions extends SuccessionOptions, StartOptions {
  /** The TOML file. */
  readonly file: string;
  /** lb4's own. */
  readonly version: string;
  /** Lines of `log` that were lost so far. */
  readonly logLinesLost: () => number;
  /** Gets the path of each further file of the configuration before it is read. */
  readonly reads?: ((path: string) => void) | undefined;
  /** Called about once a second while all who forward answer. */
  readonly beat?: (() => void) | undefined;
}

type PathOptions = Omit<ServiceOptions, 'takeover'> & Pick<PacketPathOptions, 'remember'> & Pick<ServiceParts, 'takeover' | 'ended'>;

/** What a service is made of: the configuration's members, and a data path that goes by their first plan. */
interface ServiceParts {
  /** As the file has it. */
  readonly written: Config;
  /** With the servers that were found, and whom the firewall's sets keep out. */
  readonly config: Config;
  readonly found: FoundServers;
  readonly sets: FirewallSets;
  readonly ranks: GlbRanks;
  readonly keys: Keys;
  readonly members: Members;
  readonly plan: Plan;
  readonly path: DataPath;
  readonly ended: EndedConnections;
  readonly takeover: Takeover | undefined;
}

/** Within so long a worker that does not hang has taken over any settings. */
const ANSWER_MS = 5000;

const NOT_TAKEN: Reloaded = { taken: false, changes: [], restart: [], forgotten: [], errors: [] };
const STOPPING: Reloaded = { ...NOT_TAKEN, errors: ['this lb4 stops, or another has taken over from it'] };

export class Service {
  readonly #options: ServiceOptions;
  /** What sizes and threads were made by. */
  readonly #startConfig: Config;
  readonly #startKeys: Keys;
  readonly #members: Members;
  readonly #path: DataPath;
  readonly #health: HealthChecker;
  readonly #slowStart = new SlowStart();
  readonly #replanner: Replanner<Plan>;
  readonly #rampTimer: RampTimer;
  readonly #hold: HealthHold;
  readonly #drains: Drains;
  readonly #monitors: Monitors;
  readonly #history = new ReloadHistory();
  readonly #stats: StatsPort;
  readonly #operator: Operator;
  readonly #control: ControlPort;
  readonly #succession: Succession;
  readonly #settings = new RuntimeSettings();
  readonly #found: FoundServers;
  readonly #sets: FirewallSets;
  readonly #ranks: GlbRanks;
  readonly #ended: EndedConnections;
  /** As the file has it. */
  #written: Config;
  /** With the servers that were found, and whom the firewall's sets keep out. */
  #config: Config;
  #keys: Keys;

  private constructor(
    options: ServiceOptions,
    { written, config, keys, found, sets, ranks, members, plan: first, path, ended, takeover }: ServiceParts,
  ) {
    const { mode, log, version, beat = () => {} } = options;
    this.#options = options;
    this.#startConfig = config;
    this.#startKeys = keys;
    this.#keys = keys;
    this.#written = written;
    this.#config = config;
    this.#found = found;
    this.#sets = sets;
    this.#ranks = ranks;
    this.#ended = ended;
    this.#members = members;
    this.#path = path;
    const onChange = (change: Change) => this.#healthChanged(change);
    this.#health = new HealthChecker({ log, onChange, heard: (key) => this.#heard(key), echo: echoThrough });
    const vacancies = new Vacancies(log);
    vacancies.follow(first);
    this.#replanner = new Replanner({
      first,
      make: () => this.#makePlan(this.#config),
      apply: async (plan) => {
        ended.follow(plan);
        await path.apply(plan);
        vacancies.follow(plan);
      },
      complain: (error) => this.#complain(error),
    });
    this.#rampTimer = new RampTimer(this.#slowStart, () => this.#replanner.request());
    this.#hold = new HealthHold(() => this.#replanner.request());
    const left = () => this.#health.set(this.#targets());
    this.#drains = new Drains({ members, path, replanner: this.#replanner, log, left });
    this.#monitors = new Monitors({ mode, path, health: this.#health, replanner: this.#replanner, log, beat });
    const failed = (error: unknown) => log.error({ error: String(error) }, 'statistics');
    this.#operator = this.#makeOperator();
    this.#control = new ControlPort({ orders: this.#operator, log });
    this.#stats = new StatsPort(() => ({ source: path, view: () => this.#view(), version, writer: this.#control.dashboard, failed }));
    const parts = {
      options,
      path,
      members,
      health: this.#health,
      replanner: this.#replanner,
      monitors: this.#monitors,
      stats: this.#stats,
      control: this.#control,
      operator: this.#operator,
    };
    this.#succession = new Succession({ ...parts, config: () => this.#config, takeover });
  }

  /** Starts everything. Rejects with an Lb4Error when it cannot; then everything that was begun is undone. */
  static async start(options: ServiceOptions): Promise<Service> {
    let takeover: Takeover | undefined;
    const found = new FoundServers(options.mode, options.file, options.log);
    const sets = new FirewallSets(options.mode, options.log);
    const ended = new EndedConnections(options.log);
    try {
      const { config: written, keys } = readConfig(options, { reload: false });
      await sets.follow(written);
      const config = sets.expand(await found.start(written));
      const ranks = new GlbRanks(options.log);
      await ranks.follow(config);
      takeover = await predecessor(config, options);
      const members = membersOf(config, options, takeover);
      const file = new MembersFile(members, options.log);
      const remember = () => file.save();
      const plan = makePlan(config, options.mode, members, statusAfter(takeover), undefined, ranks.rank);
      ended.follow(plan);
      ended.apply(config.connectionLog);
      // Each needs the other. What the data path hears before the service is there speaks against nobody: no check has begun.
      let service: Service | undefined;
      const path = await startPath(plan, { ...options, remember, takeover, ended }, (server, reason) => {
        if (service !== undefined) service.#suspect(server, reason);
      });
      service = new Service(options, { written, config, keys, found, sets, ranks, members, plan, path, ended, takeover });
      await service.#begin(takeover);
      return service;
    } catch (error) {
      found.stop();
      ended.close();
      // Else the data path has said what becomes of the connections.
      if (await takeover?.goesOn()) options.log.warn({ pid: takeover?.pid }, 'the lb4 that runs goes on as before');
      takeover?.abandon();
      throw explain(error, options.file);
    }
  }

  /** From another lb4, when it started. */
  get hasTakenOver(): boolean {
    return this.#succession.hasTaken;
  }

  /** What the file asks for, as it was last taken over. */
  get config(): Config {
    return this.#config;
  }

  /** From now on this one is in charge: the lb4 from which it takes over, if any, ends, and another may take over from this one. */
  settle(): Promise<void> {
    return this.#succession.open();
  }

  /** Its systemd unit is restarted: serves until the next one takes over. Calls back where none does. */
  stay(giveUp: () => void): Promise<void> {
    return this.#succession.stay(giveUp);
  }

  /** Reads the file again and takes it over. Never rejects: a bad file keeps everything as it is, and the log says why. */
  async reload(): Promise<Reloaded> {
    let outcome = STOPPING;
    // Seconds, maybe, for which no server's health waits.
    const foreseen = foresee(this.#options);
    const ranking = foreseen && this.#ranks.prepare(foreseen);
    if (ranking !== undefined) await ranking;
    await this.#replanner.inTurn(async () => {
      // Whatever the file says: who asks for a reload wants lb4 to work.
      await this.#monitors.checkHost();
      outcome = await this.#reload();
    });
    return outcome;
  }

  /** Stops: no new connections; running ones may go on for `graceMs`, or until `hurry`, where the mode can let them. */
  stop(graceMs: number, hurry: AbortSignal): Promise<void> {
    // Else it is another one's by now.
    if (!this.#replanner.isStopped) this.#found.forget();
    return this.#stop(graceMs, hurry);
  }

  #stop(graceMs: number, hurry: AbortSignal): Promise<void> {
    this.#sayWhatEnds(graceMs);
    return this.#end(() => this.#path.stop(graceMs, hurry));
  }

  #sayWhatEnds(graceMs: number): void {
    const ends = isPacketMode(this.#options.mode);
    // Those that were handed over go on.
    if (ends && this.#replanner.isStopped) return;
    const { frontends } = this.#replanner.plan;
    const connections = frontends.reduce((sum, { index }) => sum + this.#path.frontend(index).load, 0);
    if (connections === 0) return;
    if (ends) {
      this.#options.log.info({ connections }, 'connections are not forwarded any more');
      this.#ended.tellStopped(connections);
    } else this.#options.log.info({ connections, seconds: graceMs / 1000 }, 'waiting for connections to end; a second signal ends them');
  }

  /** Stops for a restart: as `stop`, but connections wait for the next lb4 where the mode can let them. */
  async rest(graceMs: number, hurry: AbortSignal): Promise<void> {
    // The next one may serve both while this one drains.
    await Promise.all([this.#stats.close(), this.#control.close()]);
    if (!this.#succession.canRest) return this.#stop(graceMs, hurry);
    const stays = 'their table and the firewall rules stay';
    this.#options.log.info(
      fansOut(this.#options.mode) ? 'the kernel goes on: its rules stay' : `connections wait for the next start: ${stays}`,
    );
    return this.#end(() => this.#succession.letGo());
  }

  /** Stops at once, since lb4 itself has failed: connections wait for the next lb4 where the mode can let them. */
  abandon(): Promise<void> {
    return this.#end(() => this.#abandonPath(true));
  }

  #abandonPath(hasServed: boolean): Promise<void> {
    return this.#path.abandon?.(hasServed) ?? this.#path.stop(0, AbortSignal.abort());
  }

  async #end(endPath: () => Promise<void>): Promise<void> {
    this.#succession.close();
    this.#found.stop();
    this.#sets.stop();
    const hanging = setTimeout(() => this.#path.giveUp(), ANSWER_MS);
    // While there is a data path to read from.
    await this.#operator.close();
    // A reload under way ends first: it sets checks and timers.
    await Promise.all([this.#replanner.stop(), this.#monitors.stop()]);
    clearTimeout(hanging);
    this.#health.stop();
    this.#rampTimer.stop();
    this.#hold.stop();
    this.#drains.stop();
    try {
      await endPath();
      await this.#succession.end();
    } finally {
      this.#ended.close();
      await Promise.all([this.#stats.close(), this.#control.close()]);
      this.#sayWhatIsForgotten();
    }
  }

  /** What was set at run time is nobody's any more. */
  #sayWhatIsForgotten(): void {
    const set = this.#settings.all.map(({ backend, server, setting }) => `${backend}/${server}: ${settingText(setting)}`);
    if (set.length > 0) this.#options.log.info({ set }, 'what was set by control is forgotten');
  }

  /** From now on checks, monitors and statistics run. Rejects when they cannot; then the data path, too, has stopped. */
  async #begin(takeover: Takeover | undefined): Promise<void> {
    try {
      await this.#stats.move(this.#config.stats?.listen);
    } catch (error) {
      // A reload tries again.
      const { isAlone } = this.#succession;
      if (isAlone) this.#options.log.error({ reason: messageOf(error) }, 'no statistics until a reload can open their port');
      else await this.#end(() => this.#abandonPath(false)).catch(() => {});
      if (!isAlone) throw error;
    }
    await this.#control.move(this.#config.control);
    this.#health.set(this.#targets(), (key) => takeover?.health(key));
    this.#monitors.start();
    this.#found.begin(() => void this.#replanner.inTurn(() => this.#takeFound()));
    this.#sets.begin(() => void this.#replanner.inTurn(() => this.#takeFound()));
    // Who was leaving when the last one died.
    this.#drains.follow(true);
  }

  async #reload(): Promise<Reloaded> {
    const { log } = this.#options;
    const before = this.#config;
    let forgotten: readonly Forgotten[];
    let restart: readonly string[];
    let asBefore = () => {};
    // Whatever the file says: its own file may have been moved away.
    this.#ended.reopen();
    try {
      const { config: written, keys } = readConfig(this.#options, { reload: true });
      assertReloadable(before, written, this.#options.mode);
      restart = restartOnly(this.#startConfig, written);
      for (const key of restart) log.warn({ key }, 'this key changes only with a restart');
      asBefore = await this.#sets.follow(written);
      forgotten = await this.#takeOver(this.#sets.expand(await this.#found.follow(written)));
      this.#written = written;
      this.#keys = keys;
      this.#ended.apply(written.connectionLog);
      await this.#control.move(written.control);
      this.#history.succeed();
    } catch (error) {
      asBefore();
      void this.#found.follow(this.#written);
      void this.#ranks.follow(before);
      const errors = logFailure(error, this.#options.file, log);
      this.#history.fail(errors[0] ?? '');
      return { ...NOT_TAKEN, errors };
    }
    // It has been applied, however telling of it goes.
    const { frontends, backends } = this.#config;
    this.#tellForgotten(forgotten);
    const changes = tellChanges(before, this.#config, log);
    tellOuterPackets(before, this.#config, this.#options.mode, log);
    log.info({ frontends: frontends.length, backends: backends.length, changes: changes.length }, 'configuration reloaded');
    const gone = forgotten.map(({ server, reason }) => `${server}: ${reason}`);
    return { taken: true, changes: changes.map(changeText), restart, forgotten: gone, errors: [] };
  }

  /** Others are found than before, or kept out by the firewall's sets: as if the file had changed. */
  async #takeFound(): Promise<void> {
    const before = this.#config;
    let forgotten: readonly Forgotten[];
    try {
      forgotten = await this.#takeOver(this.#sets.expand(this.#found.expand(this.#written)));
    } catch (error) {
      this.#complain(error);
      this.#found.again();
      return;
    }
    this.#tellForgotten(forgotten);
    tellChanges(before, this.#config, this.#options.log, 'is not found any more');
  }

  #tellForgotten(forgotten: readonly Forgotten[]): void {
    for (const { server, reason } of forgotten) this.#options.log.info({ server, reason }, 'what was set by control is forgotten');
  }

  /** All or nothing: what can fail comes first, and is taken back when something after it fails. Returns what was set at run time and is no more. */
  async #takeOver(config: Config): Promise<readonly Forgotten[]> {
    await this.#ranks.follow(config);
    const takeBack = this.#members.enrol(config);
    const settings = this.#settings.follow(config);
    const plan = this.#makePlan(config);
    try {
      await this.#stats.move(config.stats?.listen);
      await this.#replanner.apply(plan);
    } catch (error) {
      takeBack();
      settings.takeBack();
      await this.#stats.move(this.#config.stats?.listen).catch((cause) => this.#complain(cause));
      throw error;
    }
    this.#config = config;
    this.#health.set(this.#targets());
    this.#drains.follow();
    return settings.forgotten;
  }

  #targets() {
    return targetsOf(this.#config, this.#options.mode, leavingOf(this.#members));
  }

  #makePlan(config: Config): Plan {
    const now = performance.now();
    this.#hold.follow(config, (key) => this.#health.state(key), now);
    const status = {
      state: (key: string) => this.#health.state(key),
      isSpare: (key: string) => this.#health.damped(key),
      share: (key: string) => this.#slowStart.share(key, now),
      setting: (backend: Backend, server: Server) => this.#settings.of(backend, server),
      held: (backend: string, key: string) => this.#hold.health(backend, key),
    };
    return makePlan(config, this.#options.mode, this.#members, status, this.#replanner.plan, this.#ranks.rank);
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

  /** @param key of a check */
  #startSlowly(key: string): void {
    const { backends } = this.#replanner.plan;
    const own = backends.find(({ servers }) => servers.some(({ checkKey }) => checkKey === key));
    this.#slowStart.begin(key, performance.now(), own?.backend.slowStartMs ?? 0);
    this.#rampTimer.follow();
  }

  /** Bytes that have come from a server so far, in whichever protocols share its check. */
  #heard(key: string): number {
    const servers = this.#replanner.plan.backends.flatMap((backend) => backend.servers.filter(({ checkKey }) => checkKey === key));
    return servers.reduce((sum, { index }) => sum + this.#path.server(index).bytesRx, 0);
  }

  /** Signals come by the thousand when many servers die at once. */
  #suspect(server: number, reason: string): void {
    const key = this.#replanner.plan.checkKeys.get(server);
    if (key !== undefined) this.#health.suspect(key, reason, reason === REASONS.unreachable);
  }

  #makeOperator(): Operator {
    const { mode, file, version, log } = this.#options;
    return new Operator({
      mode,
      file: resolve(file),
      version,
      log,
      path: this.#path,
      health: this.#health,
      hold: this.#hold,
      monitors: this.#monitors,
      replanner: this.#replanner,
      settings: this.#settings,
      drains: this.#drains,
      view: () => this.#view(),
      config: () => this.#config,
      effective: () => renderKeys(keysInEffect(this.#keys, this.#startKeys), mode, this.#settings.all),
      makePlan: () => this.#makePlan(this.#config),
      reload: () => this.reload(),
      startSlowly: (key) => this.#startSlowly(key),
    });
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
      connectionLog: this.#ended.counters,
      discoveryFailing: this.#found.failing,
      stopping: this.#replanner.isStopped,
    });
  }
}

/** As they are where an lb4 hands over, or were when one died here whose connections can go on. */
function membersOf(config: Config, { mode, log }: ServiceOptions, takeover: Takeover | undefined): Members {
  const isKept = isPacketMode(mode) && (takeover !== undefined || canGoOn(config, mode));
  return isKept ? membersAfter(config, mode, log) : new Members(config);
}

/** A server that was down for the last one is down at first. */
function statusAfter(takeover: Takeover | undefined): ServerStatus {
  const known = (key: string) => takeover?.health(key);
  return { ...UNCHECKED, state: (key) => known(key)?.state ?? 'unknown', isSpare: (key) => known(key)?.damped ?? false };
}

function startPath(plan: Plan, options: PathOptions, signal: Reports['signal']): Promise<DataPath> {
  const { mode, rules, failed, log, remember, takeover, ended } = options;
  const reports: Reports = {
    signal,
    failed,
    log,
    ended: (flows, left) => ended.take(flows, left),
    nameOf: (frontend) => ended.nameOf(frontend),
  };
  if (fansOut(mode)) return FanOutPath.start(plan, { rules, takeover }, reports);
  return isPacketMode(mode)
    ? PacketPath.start(plan, { mode, rules, remember, takeover }, reports)
    : ProxyPath.start(plan, reports, takeover);
}
