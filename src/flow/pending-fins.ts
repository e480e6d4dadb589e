/**
 * FINs that came before what they stand behind: those segments were lost before lb4 saw them, and a FIN that its receiver has acknowledged
 * selectively (RFC 2018) is never sent again. Nobody can tell yet whether such a one is forged; it counts once the other side has acknowledged
 * it, and until then its number waits here, in one of the few places that its flow may have. Whoever loses that to later ones, or waits too
 * long, just does not count: the connection times out.
 */
import { ENTRY_SHIFT, NONE } from '../layout/flow.ts';

/** How many can wait at once (64 KB); a power of two. */
const PLACES = 4096;
/** Places that a flow may have, a power of two: where hundreds wait, hardly anybody finds the first one taken, and all of them nobody. */
const CHOICE = 8;
/** By then a sender has sent again what was lost, or has given up. Milliseconds. */
const AGE_MS = 60_000;

const WORDS = 4;
const FLOW = 0;
const SINCE = 1;
const NUMBER = 2;
const PAYLOAD = 3;

export class PendingFins {
  readonly #words = new Int32Array(PLACES * WORDS).fill(NONE);

  /**
   * @param flow the word index of the flow that the FIN came by
   * @param number its sequence number, behind its segment's payload of `payload` bytes
   * @param now milliseconds modulo 2^32
   */
  put(flow: number, number: number, payload: number, now: number): void {
    const at = this.#placeFor(flow, now);
    this.#words[at + FLOW] = flow;
    this.#words[at + SINCE] = now;
    this.#words[at + NUMBER] = number;
    this.#words[at + PAYLOAD] = payload;
  }

  /** Where the FIN of a flow waits, for {@link number} and {@link payload}; NONE where none does. */
  find(flow: number, now: number): number {
    const first = firstPlace(flow);
    for (let at = first; at < first + CHOICE * WORDS; at += WORDS)
      if (this.#words[at + FLOW] === flow && this.#age(at, now) <= AGE_MS) return at;
    return NONE;
  }

  drop(at: number): void {
    this.#words[at + FLOW] = NONE;
  }

  number(at: number): number {
    return this.#words[at + NUMBER];
  }

  payload(at: number): number {
    return this.#words[at + PAYLOAD];
  }

  #age(at: number, now: number): number {
    return (now - this.#words[at + SINCE]) >>> 0;
  }

  /** Its own, or one that nobody has, or that of the one that has waited longest. */
  #placeFor(flow: number, now: number): number {
    const first = firstPlace(flow);
    let best = first;
    let longest = -1;
    for (let at = first; at < first + CHOICE * WORDS; at += WORDS) {
      if (this.#words[at + FLOW] === flow) return at;
      const waited = this.#words[at + FLOW] === NONE ? Infinity : this.#age(at, now);
      if (waited <= longest) continue;
      longest = waited;
      best = at;
    }
    return best;
  }
}

function firstPlace(flow: number): number {
  return ((flow >>> ENTRY_SHIFT) & (PLACES - CHOICE)) * WORDS;
}
