import type { Check, CheckSettings, Target } from './check.ts';
import { checkFor } from './check-for.ts';
import type { Description, Health, History } from './health-state.ts';
import { LocalErrors } from './local-errors.ts';
import { Semaphore } from './semaphore.ts';
import type { EchoThrough } from './tunnel.ts';
import { Turns } from './turns.ts';
import { type Change, type HealthLog, Watch, type WatchContext } from './watch.ts';

export type { Description, Health } from './health-state.ts';
export type { Change, HealthLog } from './watch.ts';

export interface HealthCheckerOptions {
  onChange: (change: Change) => void;
  log?: HealthLog;
  /** How to look at a target; what the target asks for unless told. */
  check?: (target: Target) => Check;
  /** Asks servers by their tunnels, where some are to be asked so. */
  echo?: EchoThrough;
  /** Bytes that have come from a server so far, whoever they were for. */
  heard?: (id: string) => number;
}

/**
 * So many checks run at the same time; the others wait in line. A connection costs a file descriptor, a command a process
 * and three. Only servers that do not answer fill the gates: with the default times about 850 (106 with commands) before
 * the checks of others come late.
 */
const MAX_CONNECTIONS = 512;
const MAX_COMMANDS = 64;
/** Where silence passes, well servers fill these: no others wait behind them. */
const MAX_DATAGRAMS = 512;

/** Checks servers, all at the same time, and tells when one goes up or down. */
export class HealthChecker {
  readonly #context: WatchContext;
  readonly #watches = new Map<string, Watch>();

  constructor({ onChange, log, echo, check = (target) => checkFor(target, echo), heard = () => 0 }: HealthCheckerOptions) {
    const connections = new Semaphore(MAX_CONNECTIONS);
    const others: Partial<Record<CheckSettings['type'], Semaphore>> = {
      exec: new Semaphore(MAX_COMMANDS),
      udp: new Semaphore(MAX_DATAGRAMS),
    };
    const semaphoreFor = ({ check: asked }: Target) => others[asked?.type ?? 'tcp'] ?? connections;
    this.#context = { makeCheck: check, semaphoreFor, onChange, log, heard, localErrors: new LocalErrors(), turns: new Turns() };
  }

  /**
   * Makes `targets` the whole set: new ones are checked at once, missing ones forgotten without a change being told.
   * One that stays at its address keeps its state and gets its new settings, its kind of check too; one that moves is
   * new. Idempotent.
   * @param known what another process knew of a new one
   */
  set(targets: Target[], known?: (id: string) => Description | undefined): void {
    const wanted = new Map(targets.map((target) => [target.id, target]));
    for (const [id, watch] of this.#watches) {
      const target = wanted.get(id);
      if (target === undefined || !watch.isAt(target)) this.#forget(id, watch);
    }
    for (const [id, target] of wanted) {
      const watch = this.#watches.get(id);
      if (watch === undefined) this.#watches.set(id, new Watch(target, this.#context, known?.(id)));
      else watch.update(target);
    }
    this.#context.turns.keep(new Set(targets.map(({ address }) => address)));
  }

  /**
   * A passive signal against a server: SYN retransmissions, resets, failed connects. It decides nothing, but the next
   * check comes at once, 250 ms (or the interval, if shorter) after the last one began at the soonest; so do those that
   * confirm a failure, until one passes or the server is down. A check under way is followed by one more.
   * @param isRefusal its host says that nobody serves there: a check that passes by silence alone then fails
   */
  suspect(id: string, reason: string, isRefusal = false): void {
    this.#watches.get(id)?.suspect(reason, isRefusal);
  }

  /** The state of a target; `unknown` for one that is not in the set, `down` for one that is held down. */
  state(id: string): Health {
    return this.#watches.get(id)?.state.health ?? 'unknown';
  }

  /** Whether a server is held down because it flapped. */
  damped(id: string): boolean {
    return this.#watches.get(id)?.state.damped ?? false;
  }

  /** When the last check that passed began, on the monotonic clock (performance.now); undefined: none did. */
  passedAt(id: string): number | undefined {
    return this.#watches.get(id)?.passedAt;
  }

  /** Whether a target has answered a check by datagram: so it is of a protocol that has answers. */
  answersDatagrams(id: string): boolean {
    return this.#watches.get(id)?.answersDatagrams ?? false;
  }

  /** Of all targets, by their names. */
  all(): (readonly [id: string, Description])[] {
    return [...this.#watches.values()].map(({ id, state }) => [id, state.description()] as const);
  }

  /** Undefined for a target that is not in the set. */
  describe(id: string): Description | undefined {
    return this.#watches.get(id)?.state.description();
  }

  /** Its last checks, and what they come to; undefined for a target that is not in the set. */
  history(id: string): History | undefined {
    return this.#watches.get(id)?.history;
  }

  /** Ends all checks; no change is told any more. `set` would start afresh. */
  stop(): void {
    for (const [id, watch] of this.#watches) this.#forget(id, watch);
  }

  #forget(id: string, watch: Watch): void {
    this.#watches.delete(id);
    watch.stop();
  }
}
