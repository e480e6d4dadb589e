/** `lb4 --passthrough` and `lb4 --dsr`: from a configuration file to packets, and back to the host as it was. */
import type { Server } from 'node:http';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/model.ts';
import { startStatsServer } from '../control/server.ts';
import { statsDocument } from '../control/stats.ts';
import { Engine } from '../engine/engine.ts';
import { EXIT, formatMistake } from '../errors.ts';
import type { Target } from '../health/check.ts';
import { type Change, HealthChecker } from '../health/checker.ts';
import { targetFor } from '../health/targets.ts';
import type { Logger } from '../log.ts';
import { rulesFor } from '../rules/from-config.ts';
import { renderBalancerScript } from '../rules/render.ts';
import { runRules } from '../rules/run.ts';
import { assertCheckSource, assertListenAddresses, explain, lockNamespace } from './host.ts';
import { forwardingOf, type PacketMode, ServiceIndexes, serverId, settingsOf } from './services.ts';

export interface RunOptions {
  /** The TOML file. */
  readonly config: string;
  readonly mode: PacketMode;
  /** False: the user looks after the firewall rules. */
  readonly rules: boolean;
}

/** Undoes one thing that starting did. */
type Undo = () => Promise<unknown> | unknown;

/**
 * Runs until SIGINT, SIGTERM or SIGHUP, or until the data path dies, then leaves the host as it was. Rejects with an
 * Lb4Error when it cannot start: then everything that was begun is undone, too.
 */
export async function run(options: RunOptions, log: Logger): Promise<void> {
  const undo: Undo[] = [];
  try {
    const ended = endOf();
    const { config, warnings } = loadConfig(options.config, { dsr: options.mode === 'dsr' });
    for (const warning of warnings) log.warn(formatMistake(warning));
    if (config.passthrough.workers > 1)
      log.warn({ workers: config.passthrough.workers }, 'one worker forwards; more are not supported yet');
    await start(config, options, log, undo, ended.fail);
    log.info({ mode: options.mode, frontends: config.frontends.map(({ listen }) => listen.text) }, 'ready');
    const signal = await ended.promise;
    log.info({ signal }, 'stopping');
  } catch (error) {
    throw explain(error);
  } finally {
    await undoAll(undo, log);
  }
}

/** A step that fails must not keep the others from being undone. */
async function undoAll(undo: Undo[], log: Logger): Promise<void> {
  for (const step of undo.reverse()) {
    try {
      await step();
    } catch (error) {
      log.error({ error: String(error) }, 'could not undo everything');
      process.exitCode = EXIT.failure;
    }
  }
}

async function start(config: Config, options: RunOptions, log: Logger, undo: Undo[], failed: (error: Error) => void): Promise<void> {
  assertListenAddresses(config);
  if (options.mode === 'dsr') assertCheckSource(config);
  const lock = await lockNamespace();
  undo.push(() => lock.close());
  if (options.rules) {
    const script = renderBalancerScript(rulesFor(config, options.mode));
    undo.push(() => runRules(script, 'remove'));
    await runRules(script, 'install');
  }

  const indexes = new ServiceIndexes();
  // A server whose first check is still under way counts as up: a restart must not refuse connections.
  const settings = () => settingsOf(config, options.mode, indexes, (id) => health.state(id) !== 'down');
  let pending: NodeJS.Immediate | undefined;
  const health: HealthChecker = new HealthChecker({
    log,
    onChange: (change) => {
      logChange(log, change);
      // A server counts as up before its first check: that it is changes nothing.
      if (change.from === 'unknown' && change.to === 'up') return;
      pending ??= setImmediate(() => {
        pending = undefined;
        engine.configure(settings());
      });
    },
  });
  const { connectionTrackerCapacity: connections, ringSlots, resetsPerSecond: answersPerSecond } = config.passthrough;
  const engine = await Engine.start({ connections, ringSlots, answersPerSecond, settings: settings(), failed });
  undo.push(() => engine.stop());
  // Ends first: a check that comes in while the engine stops would tell it of a change.
  undo.push(() => {
    health.stop();
    clearImmediate(pending);
  });
  health.set(targetsOf(config, options.mode));
  if (config.stats) {
    const { ip, port } = config.stats.listen;
    const server = await startStatsServer(ip, port, () => statsDocument(engine, viewOf(config, indexes, health)));
    undo.push(() => closeServer(server));
  }
}

/** A health check for every server of a backend that a frontend uses, from that frontend's address. */
function targetsOf(config: Config, mode: PacketMode): Target[] {
  return config.backends.flatMap((backend) => {
    const frontend = config.frontends.find((one) => one.backend === backend);
    if (frontend === undefined) return [];
    // On one link the VIP is the server's own address, too: it would answer itself.
    const source = forwardingOf(mode, backend) === 'dsrL2' ? undefined : frontend.listen.ip;
    return backend.servers.map((server) => targetFor(serverId(backend, server), backend, server, source));
  });
}

function viewOf(config: Config, indexes: ServiceIndexes, health: HealthChecker) {
  return {
    frontends: config.frontends.map(({ name }) => ({ name, index: indexes.frontends.of(name) })),
    backends: config.backends.map((backend) => ({
      name: backend.name,
      servers: backend.servers.map((server) => {
        const id = serverId(backend, server);
        const state = health.state(id);
        return { address: server.addr.text, index: indexes.servers.of(id), up: state === 'unknown' ? undefined : state === 'up' };
      }),
    })),
  };
}

function logChange(log: Logger, { target, from, to, reason, suspected }: Change): void {
  const fields = { server: target.id, address: `${target.address}:${target.port}`, reason, suspected };
  if (to === 'down') log.warn(fields, 'server down');
  else log.info(fields, from === 'unknown' ? 'server up' : 'server up again');
}

function endOf(): { promise: Promise<NodeJS.Signals>; fail: (error: Error) => void } {
  let fail: (error: Error) => void = () => {};
  const promise = new Promise<NodeJS.Signals>((resolve, reject) => {
    fail = reject;
    // A second signal changes nothing: what was done to the host is being undone already.
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, resolve);
    for (const event of ['uncaughtException', 'unhandledRejection'] as const) process.on(event, reject);
  });
  // Awaited only once lb4 runs: an error before that must not count as unhandled.
  promise.catch(() => {});
  return { promise, fail };
}

function closeServer(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(() => resolve()));
}
