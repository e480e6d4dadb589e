/**
 * By which links clients come, and which lead to servers: where servers answer clients through this host, an answer, or an error about what
 * a server was sent, is not taken from a link of clients alone, since whoever sends from there has no server's address. As a router that goes by reverse path
 * does (RFC 3704), but for what it may not know: a link on which no client was seen may be another way of a server's (several next hops, a
 * route that is its own), and so is any link that leads to a server.
 * Clients' are those by which a connection's client has come whose both sides were heard: one packet anybody forges, and by a link of servers' alone it
 * would have their answers dropped. They are forgotten when no client is left, and by the next process.
 *
 * Two sets in each worker's table of next hops (layout/hops.ts), where the kernel's fast path finds them, too: clients' is the worker's, servers' the
 * main thread's.
 */
import { CLIENT_LINKS, HOP, LINKS, SERVER_LINKS } from '../layout/hops.ts';

const WORDS = LINKS / 32;
/** A link is no more one of clients' alone when none has had a connection by it for this long, or up to twice that, in ms. */
export const FORGOTTEN_MS = 300_000;

/** @param group which set: CLIENT_LINKS or SERVER_LINKS */
function wordOf(group: number, ifindex: number): number {
  return group * HOP + ((ifindex & (LINKS - 1)) >>> 5);
}

/** Adds an interface, by its index, to a set. */
export function addLink(hops: Int32Array, group: number, ifindex: number): void {
  const at = wordOf(group, ifindex);
  const bit = 1 << ifindex;
  if ((hops[at] & bit) === 0) hops[at] |= bit;
}

/** Makes a set that of those interfaces. None that stays in it is missing for a moment. */
export function setLinks(hops: Int32Array, group: number, indexes: Iterable<number>): void {
  const first = wordOf(group, 0);
  const wanted = new Int32Array(WORDS);
  for (const ifindex of indexes) wanted[wordOf(group, ifindex) - first] |= 1 << ifindex;
  hops.set(wanted, first);
}

/** Whether clients came by an interface that leads to no server. */
export function isClientsAlone(hops: Int32Array, ifindex: number): boolean {
  return (hops[wordOf(CLIENT_LINKS, ifindex)] & ~hops[wordOf(SERVER_LINKS, ifindex)] & (1 << ifindex)) !== 0;
}

/** The set of clients' links, each in it for as long as it has clients. */
export class ClientLinks {
  readonly #hops: Int32Array;
  /** Those that had a client since the others were last forgotten. */
  readonly #recent = new Int32Array(WORDS);
  #agedAt = 0;

  /** Begins with none, whatever another process has left: its links may be others by now. */
  constructor(hops: Int32Array) {
    this.#hops = hops;
    this.forget();
  }

  /** A client whom both sides of a connection have shown came by that interface; 0: nobody knows which. */
  note(ifindex: number): void {
    if (ifindex === 0) return;
    addLink(this.#hops, CLIENT_LINKS, ifindex);
    this.#recent[(ifindex & (LINKS - 1)) >>> 5] |= 1 << ifindex;
  }

  /** Forgets, now and then, those by which no client has come. `now` in milliseconds, modulo 2^32. */
  age(now: number): void {
    if ((now - this.#agedAt) >>> 0 < FORGOTTEN_MS) return;
    this.#agedAt = now;
    this.#hops.set(this.#recent, wordOf(CLIENT_LINKS, 0));
    this.#recent.fill(0);
  }

  forget(): void {
    this.#recent.fill(0);
    this.#hops.set(this.#recent, wordOf(CLIENT_LINKS, 0));
  }
}
