/**
 * A fan-out as a data path: the kernel has the connections, by rules of its table nat, and lb4 swaps these when a process goes down or comes back. Nothing
 * is seen of what passes, so all counters stay at nothing.
 */
import { NOTHING } from '../control/source.ts';
import { lockFanOut, type NamespaceLock } from '../io/namespace-lock.ts';
import { renderFanOutScript } from '../rules/fan-out.ts';
import { assertDialect, fanOutFor } from '../rules/fan-out-config.ts';
import { fanOutDialect, readFanOut, runRules } from '../rules/run.ts';
import type { FanOutDialect, FanOutInput } from '../rules/types.ts';
import type { DataPath, Reports } from './data-path.ts';
import type { HostState } from './guard.ts';
import { hostLock } from './host-lock.ts';
import type { Plan, PlannedServer } from './plan.ts';
import type { Takeover } from './takeover.ts';

export interface FanOutOptions {
  /** False: the rules are the user's, and stay as they are. */
  readonly rules: boolean;
  readonly takeover?: Pick<Takeover, 'take'> | undefined;
}

const NONE = { ...NOTHING, current: 0, load: 0 };

export class FanOutPath implements DataPath {
  readonly mode = 'fan-out';
  readonly pulses = [];
  readonly hostStates: readonly HostState[];
  readonly #lock: NamespaceLock;
  readonly #log: Reports['log'];
  readonly #dialect: FanOutDialect;
  readonly #rules: boolean;
  /** Of the rules that stand. */
  #script = '';
  /** What the kernel said when they were all there; undefined: that is not known yet. */
  #good: string | undefined;
  /** The rules are another one's by now, or nobody's: nothing of this host is this one's to change any more. */
  #isOver = false;

  private constructor(lock: NamespaceLock, dialect: FanOutDialect, rules: boolean, log: Reports['log']) {
    this.#lock = lock;
    this.#log = log;
    this.#dialect = dialect;
    this.#rules = rules;
    this.hostStates = [hostLock(lock), ...(rules ? [this.#state()] : [])];
  }

  /** Puts the rules in place. Rejects with an Lb4Error where it cannot, or another lb4 does already; then nothing has changed. */
  static async start(plan: Plan, { rules, takeover }: FanOutOptions, { log }: Reports): Promise<FanOutPath> {
    const dialect = await fanOutDialect();
    assertDialect(plan.config, dialect);
    // It lets go of the lock, and leaves its rules.
    await takeover?.take();
    const lock = lockFanOut({ mode: 'fan-out', rules });
    const path = new FanOutPath(lock, dialect, rules, log);
    try {
      await path.apply(plan);
    } catch (error) {
      lock.release();
      throw error;
    }
    if (rules) log.info({ dialect }, 'fan-out: the kernel has its rules');
    return path;
  }

  async apply(plan: Plan): Promise<void> {
    if (!this.#rules) return;
    assertDialect(plan.config, this.#dialect);
    const script = renderFanOutScript(fanOutsOf(plan), this.#dialect);
    if (script === this.#script) return;
    await this.#run(script, 'install');
    this.#script = script;
    this.#good = undefined;
  }

  /** It has no worker: a tool that hangs is killed by its own limit. */
  giveUp(): void {}

  /** New connections are the listening port's alone; those that were spread break, unless other rules of this host keep conntrack at work. */
  async stop(): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    try {
      if (this.#rules) await this.#run(renderFanOutScript([], this.#dialect), 'remove');
    } finally {
      this.#lock.release();
    }
  }

  /** The rules go on without lb4. */
  async letGo(): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#lock.release();
  }

  async abandon(hasServed: boolean): Promise<void> {
    return hasServed ? this.letGo() : this.stop();
  }

  frontend() {
    return NONE;
  }

  server() {
    return NONE;
  }

  async flows() {
    return { flows: [], more: false };
  }

  async endFlows() {
    return { ended: 0, reset: 0 };
  }

  #state(): HostState {
    return {
      what: 'fan_out',
      name: 'rules of the fan-out',
      usually: 'a restart of the firewall does this',
      fresh: true,
      verify: () => this.#verify(),
      repair: () => this.#run(this.#script, 'install'),
    };
  }

  async #run(script: string, action: 'install' | 'remove'): Promise<void> {
    const { warnings } = await runRules(script, action);
    for (const warning of warnings) this.#log.warn(`rules: ${warning}`);
  }

  /** The script's `status` compares; it is asked only when what the kernel says has changed. */
  async #verify(): Promise<readonly string[]> {
    const reading = await readFanOut(this.#dialect);
    if (reading === this.#good) return [];
    const { output } = await runRules(this.#script, 'status');
    const wrong = output.split('\n').filter((line) => /^(missing|stale) (?!process )/.test(line));
    if (wrong.length === 0 && reading === (await readFanOut(this.#dialect))) this.#good = reading;
    return wrong;
  }
}

/** Those of the file, each with its processes that may be chosen by now. */
function fanOutsOf({ config: { fanOut = [] }, backends }: Plan): FanOutInput[] {
  return fanOut.map((one) => {
    const own = backends.find(({ backend: { name, label = name } }) => label === one.name);
    const ports = (own?.servers ?? [])
      .filter(({ draining }) => !draining)
      .map((process) => {
        const chosen = own?.choice.candidates.find(({ index }) => index === process.index);
        return { port: process.server.addr.port, weight: Math.round(chosen?.weight ?? weightOf(process)), isUp: chosen !== undefined };
      });
    return fanOutFor(one, ports);
  });
}

/** One that drains keeps its places, as one that is down: by "source" its clients alone go to others. */
function weightOf({ server, weight, setting }: PlannedServer): number {
  return setting?.state === 'drain' ? (setting.weight ?? server.weight) : weight;
}
