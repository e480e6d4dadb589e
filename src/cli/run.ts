/** `lb4`, `lb4 --passthrough`, `lb4 --dsr`: runs until a signal, or until the data path dies, then leaves the host as it was, or as the next lb4 needs it. */
import type { Config } from '../config/model.ts';
import { isPacketMode, type Mode } from '../config/modes.ts';
import { EXIT, FailureError, Lb4Error } from '../errors.ts';
import { unconfined, wideBounds } from '../io/confinement.ts';
import type { Logger } from '../log.ts';
import { hiddenListeners } from '../rules/hidden.ts';
import { Service } from '../service/service.ts';
import type { RunLog } from './run-log.ts';
import { Keeper, startSuccessor, tellReady, Watchdog } from './systemd.ts';
import { Watches } from './watches.ts';

export interface RunOptions {
  /** The TOML file. */
  readonly config: string;
  readonly mode: Mode;
  /** False: the user looks after the firewall rules. */
  readonly rules: boolean;
  /** From the lb4 that runs. */
  readonly takeover: boolean;
  /** lb4's own. */
  readonly version: string;
}

/** Rejects with an Lb4Error when it cannot start, or when the data path dies. */
export async function run({ config: file, mode, rules, takeover, version }: RunOptions, { log, lost }: RunLog): Promise<void> {
  tellPrivileges(log);
  const shutdown = new Shutdown();
  const keeper = Keeper.find();
  const watchdog = Watchdog.find(log);
  // Watched before it is read: a change in between is taken over as soon as lb4 runs.
  let service: Service | undefined;
  let isDue = false;
  const reload = () => {
    if (service === undefined) isDue = true;
    else void reloaded(service, watches);
  };
  const watches = new Watches(reload, log);
  watches.add(file);
  process.on('SIGHUP', reload);
  // A file that grows beyond `ulimit -f`: write(2) says so, too, and that does not end lb4.
  process.on('SIGXFSZ', () => {});
  try {
    const { fail: failed, handedOver } = shutdown;
    const isStopping = () => shutdown.isAsked;
    process.on('SIGUSR2', () => service !== undefined && !shutdown.isAsked && startSuccessor(log));
    // One that is to end says nothing of the next one, which must live by then.
    let isReady = false;
    const beat = () => {
      if (isReady && !shutdown.isEnding) watchdog?.feed();
    };
    const told = { isStopping, log, reads: watches.add, logLinesLost: lost, failed, handedOver, beat };
    service = await Service.start({ file, mode, rules, takeover, isUnit: keeper !== undefined, version, ...told });
    // Asked while it took over: what it has taken waits for the next start, and in proxy mode the other one goes on.
    if (service.hasTakenOver && shutdown.isAsked) return await serve(service, shutdown, log, true);
    let settled: () => void = () => {};
    const isSettled = new Promise<void>((resolve) => {
      settled = resolve;
    });
    // From then on a restart may come.
    if (keeper !== undefined) stayAtRestarts(service, keeper, shutdown, isSettled);
    // First: systemd would take the end of the one before for the end of all.
    await tellReady(keeper, log);
    isReady = true;
    await settle(service);
    settled();
    const { frontends } = service.config;
    log.info({ version, mode, ...summary(service.config) }, 'ready');
    const places = frontends.map(({ listen, backend: { protocol } }) => ({ ...listen, protocol }));
    for (const { text } of isPacketMode(mode) ? hiddenListeners(places) : [])
      log.warn(`a program of this host listens at ${text}, too: clients get to lb4's servers instead`);
    if (isDue) reload();
    await serve(service, shutdown, log);
  } finally {
    watches.close();
  }
}

/** What has failed of cli/confine.ts, which had no log. */
function tellPrivileges(log: Logger): void {
  const [tooMany, bounds] = [unconfined(), wideBounds()];
  if (tooMany !== undefined) log.warn(tooMany);
  if (bounds !== undefined)
    log.info(
      { bounds },
      'the bounding set stays as it is, without CAP_SETPCAP: what lb4 starts has no more privileges than it all the same',
    );
}

/** What the configuration is made of may be other files by now; of one that is not taken those that it names are watched, too, until they are mended. */
async function reloaded(service: Service, watches: Watches): Promise<void> {
  const { taken } = await service.reload();
  if (taken) watches.keep([service.config.file, ...(service.config.files ?? [])]);
}

/** What it serves, for one line. */
function summary({ file, frontends, backends, stats }: Config) {
  const servers = backends.reduce((sum, backend) => sum + backend.servers.length, 0);
  return { file, frontends: frontends.map(({ listen }) => listen.text), servers, statistics: stats?.listen.text ?? 'none' };
}

/** At a restart of its unit lb4 serves until the next one takes over. Where that takes too long, it ends as at SIGQUIT otherwise. */
function stayAtRestarts(service: Service, keeper: Keeper, shutdown: Shutdown, isSettled: Promise<void>): void {
  shutdown.stay = () => void isSettled.then(() => service.stay(() => shutdown.ask('SIGQUIT')));
  // It may also have been killed: by somebody, or by systemd when the time for a stop is up.
  keeper.whenGone(() => {
    if (shutdown.stay !== undefined || shutdown.isStopping) shutdown.ask('SIGQUIT');
  });
}

/** Rejects where it cannot; then it has stopped: nobody would look for its end. */
async function settle(service: Service): Promise<void> {
  try {
    await service.settle();
  } catch (error) {
    await service.abandon().catch(() => {});
    throw error;
  }
}

/**
 * Waits for the end, and stops.
 * @param isRestart whatever the signal: as at SIGQUIT
 */
async function serve(service: Service, shutdown: Shutdown, log: Logger, isRestart = false): Promise<void> {
  let graceMs = 0;
  let isKept = isRestart;
  try {
    const reason = await shutdown.asked;
    isKept ||= reason === 'SIGQUIT';
    graceMs = service.config.proxy.gracePeriodMs;
    log.info({ reason }, 'stopping');
  } catch (error) {
    throw failureOf(error);
  } finally {
    await stop(shutdown, log, (hurry) => {
      if (shutdown.error !== undefined) return service.abandon();
      return isKept ? service.rest(graceMs, hurry) : service.stop(graceMs, hurry);
    });
  }
  // What fails while lb4 stops must not look like a good end.
  if (shutdown.error !== undefined) throw failureOf(shutdown.error);
}

function failureOf(error: unknown): Lb4Error {
  return error instanceof Lb4Error ? error : new FailureError(String(error), { cause: error });
}

async function stop(shutdown: Shutdown, log: Logger, end: (hurry: AbortSignal) => Promise<void>): Promise<void> {
  const hurry = new AbortController();
  shutdown.onSecondSignal((signal) => {
    log.info({ signal }, 'the grace period ends');
    hurry.abort();
  });
  try {
    await end(hurry.signal);
    log.info('stopped');
  } catch (error) {
    log.error({ error: String(error) }, 'could not stop cleanly');
    process.exitCode = EXIT.failure;
  }
}

/** When to stop: a signal, or an error that nobody caught. */
class Shutdown {
  /** Resolves with the first signal, or when another lb4 has taken over; rejects with the first error. */
  readonly asked: Promise<NodeJS.Signals | 'handed over'>;
  /** The first error, also one that came after a signal. */
  error: Error | undefined;
  /** A signal has come, or another lb4 has taken over. */
  isAsked = false;
  /** The same, or it serves only until the next one takes over. */
  isEnding = false;
  readonly #failed = new AbortController();
  readonly fail = (error: Error): void => this.#failed.abort((this.error ??= error));
  /** Another lb4 has taken over. */
  handedOver: () => void = () => {};
  /** Instead of an end at the first SIGQUIT; undefined: none is possible any more. */
  stay: (() => void) | undefined;
  /** A signal has come. */
  isStopping = false;
  /** As if that signal had come. */
  ask: (signal: NodeJS.Signals) => void = () => {};
  #again: (signal: NodeJS.Signals) => void = () => {};

  constructor() {
    this.asked = new Promise((resolve, reject) => {
      this.#failed.signal.addEventListener('abort', () => reject(this.#failed.signal.reason as Error), { once: true });
      this.handedOver = () => {
        this.stay = undefined;
        this.isAsked = true;
        this.isEnding = true;
        resolve('handed over');
      };
      this.ask = (signal) => {
        const { stay, isAsked } = this;
        this.isEnding = true;
        this.stay = undefined;
        if (signal === 'SIGQUIT' && stay !== undefined && !isAsked) return stay();
        if (isAsked) this.#again(signal);
        this.isAsked = true;
        this.isStopping = true;
        resolve(signal);
      };
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGQUIT'] as const) process.on(signal, this.ask);
      for (const event of ['uncaughtException', 'unhandledRejection'] as const) process.on(event, this.fail);
    });
    // Awaited only once lb4 runs: an error before that must not count as unhandled.
    this.asked.catch(() => {});
  }

  /** Somebody is in a hurry: a second signal ends the grace period, never the undoing. */
  onSecondSignal(listener: (signal: NodeJS.Signals) => void): void {
    this.#again = listener;
  }
}
