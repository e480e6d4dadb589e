/**
 * What a server's silence means where it may pass a check (udp.ts). Of itself it passes; but who has said "port unreachable" is silent most of the time, too:
 * what it says is limited (turns.ts), lost, or used up by what clients were told. So after a refusal silence leaves the server as it is, until it
 * answers, sends something to others, or has been silent as often as {@link SILENT_CHECKS} in turns of its own.
 */
import type { CheckResult, Target } from './check.ts';
import type { Turns } from './turns.ts';

/** So many silent checks in a row after a refusal pass. */
const SILENT_CHECKS = 3;
/** So many refusals it takes to be believed (udp.ts: the first, and two that forgers are heard at). */
const REFUSALS = 3;

export class Quiet {
  readonly #turns: Turns;
  /** Bytes that have come from the server so far, whoever they were for. */
  readonly #heard: () => number;
  #heardBefore = 0;
  #wantedAt = 0;
  /** Whether the last check heard nothing of the server itself. */
  #wasMute = false;
  #isInTurn = false;
  /** Refusals that the check's turn allows for. */
  #foreseen = 0;
  #lastRefusals = 0;
  /** When clients were last told that nobody serves there. */
  #refusedAt = Number.NEGATIVE_INFINITY;
  /** Silent checks that it takes to pass. */
  #doubts = 0;
  #hasAnswered = false;

  constructor(turns: Turns, heard: () => number) {
    this.#turns = turns;
    this.#heard = heard;
  }

  /** Whether an answer has come from the port that it serves at: then its clients want one, too. */
  get hasAnswered(): boolean {
    return this.#hasAnswered;
  }

  /** The server's host says so to clients: then a check that hears nothing does not allay it. */
  noteRefusal(): void {
    this.#refusedAt = performance.now();
  }

  /** Resolves when a check may begin. Who answers waits for nobody: nothing is to be read from its host's silence. */
  async turn(target: Target, signal: AbortSignal): Promise<void> {
    this.#wantedAt = performance.now();
    this.#isInTurn = this.#wasMute && isByDatagram(target) && this.#turns.isRefusing(target);
    this.#foreseen = 0;
    if (!this.#isInTurn) return;
    this.#foreseen = this.#doubts > 0 || this.#lastRefusals > 0 ? REFUSALS : 1;
    await this.#turns.wait(target, this.#foreseen, signal);
  }

  /** A check begins now. */
  begin(target: Target): void {
    if (isByDatagram(target)) this.#heardBefore = this.#heard();
  }

  /** What its result means. @param target with one kind of check */
  weigh(result: CheckResult, target: Target): CheckResult {
    if (!isByDatagram(target)) return result;
    const { outcome, isSilent = false, refusals = 0, isGone = false } = result;
    if (isGone) this.#turns.gone(target);
    if (isSilent || outcome !== 'unknown') this.#wasMute = isSilent || outcome === 'fail';
    this.#lastRefusals = refusals;
    if (refusals > 0) this.#turns.refused(target, Math.max(0, refusals - this.#foreseen));
    if (isSilent) return this.#weighSilence(result, target);
    if (outcome === 'pass') this.#hasAnswered ||= target.serverPort === undefined || target.serverPort === target.port;
    if (outcome === 'pass') this.#doubts = 0;
    else if (refusals > 0) this.#doubts = SILENT_CHECKS;
    return result;
  }

  /** Anybody can forge what clients are told, and what checks are; not that something comes from the server. */
  #weighSilence(result: CheckResult, target: Target): CheckResult {
    if (this.#heard() !== this.#heardBefore) {
      this.#doubts = 0;
      return { ...result, outcome: 'pass' };
    }
    if (this.#refusedAt >= this.#wantedAt - target.intervalMs) {
      this.#doubts = SILENT_CHECKS;
      return { outcome: 'fail', reason: 'silent, and port unreachable to what clients send' };
    }
    if (result.outcome === 'unknown') return result;
    if (!this.#isInTurn && this.#turns.isRefusing(target))
      return { ...result, outcome: 'unknown', reason: 'silent, while its host has said port unreachable, which it does once a second' };
    if (this.#doubts === 0 || --this.#doubts === 0) return result;
    return { ...result, outcome: 'unknown', reason: `silent after port unreachable: believed after ${this.#doubts} more such checks` };
  }
}

/** The only kind of check that passes by silence; maybe one of several. */
function isByDatagram({ check, also = [] }: Target): boolean {
  return check?.type === 'udp' || also.some(({ type }) => type === 'udp');
}
