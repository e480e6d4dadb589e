/**
 * Has the kernel see to the MAC addresses that lb4's frames bear. They pass its neighbour entries by, so it learns of no use of them: one stays as it was
 * learnt (STALE), and a server that has another MAC address by now gets nothing any more. Where only lb4 sends to a server (L2 DSR without
 * checks) nobody else would have it ask in the first place.
 */
import type { Way } from '../forward/ways.ts';
import type { RouteSocket } from '../io/native.ts';

const TICK_MS = 1000;
/** Each is asked for once in so many ticks, a share at a time; who is missing, at each. */
export const ROUND = 25;

export interface Neighbour {
  readonly ifindex: number;
  /** As RouteSocket has them. */
  readonly address: number | Uint8Array;
  /** Its MAC address is. */
  readonly isKnown: boolean;
}

export class Solicitor {
  readonly #socket: Pick<RouteSocket, 'solicit'>;
  readonly #known = new Map<Way, Neighbour>();
  readonly #missing = new Map<Way, Neighbour>();
  /** Those of this round that are still to be asked for, and how many at a tick. */
  #line: Neighbour[] = [];
  #share = 0;
  #ticks = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(socket: Pick<RouteSocket, 'solicit'>) {
    this.#socket = socket;
    this.#timer = setInterval(() => this.#tick(), TICK_MS).unref();
  }

  /** Whom the frames of a way go to; undefined: nobody whose MAC address is lb4's to know. */
  note(way: Way, neighbour: Neighbour | undefined): void {
    const last = this.#missing.get(way);
    this.#known.delete(way);
    this.#missing.delete(way);
    if (neighbour === undefined) return;
    (neighbour.isKnown ? this.#known : this.#missing).set(way, neighbour);
    if (!neighbour.isKnown && (last === undefined || keyOf(last) !== keyOf(neighbour))) this.#ask(neighbour);
  }

  /** Only these ways are to be known any more. */
  keep(ways: ReadonlySet<Way>): void {
    for (const known of [this.#known, this.#missing]) for (const way of known.keys()) if (!ways.has(way)) known.delete(way);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    if (this.#ticks++ % ROUND === 0) {
      this.#line = distinct(this.#known);
      this.#share = Math.ceil(this.#line.length / ROUND);
    }
    for (const neighbour of [...distinct(this.#missing), ...this.#line.splice(0, this.#share)]) this.#ask(neighbour);
  }

  /** What fails (an interface that has just gone) is asked again, and a neighbour that stays away is told elsewhere. */
  #ask({ ifindex, address }: Neighbour): void {
    try {
      this.#socket.solicit(ifindex, address);
    } catch {
      // as above
    }
  }
}

/** Several ways may lead to one: a gateway, a server with several ports. */
function distinct(neighbours: ReadonlyMap<Way, Neighbour>): Neighbour[] {
  return [...new Map([...neighbours.values()].map((neighbour) => [keyOf(neighbour), neighbour])).values()];
}

function keyOf({ ifindex, address }: Neighbour): string {
  return `${ifindex} ${address.toString()}`;
}
