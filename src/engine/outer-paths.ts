/**
 * Links between this host and a server that take less than the route to it says, where packets are wrapped: who finds out is a router, which tells this host,
 * and whoever sent the packet inside learns nothing. What it says of a client's packet nobody can verify, nor does the kernel verify what it believes itself
 * (of UDP it looks at addresses and ports alone). So lb4 sends some as large, with a secret in each, and believes what quotes that (io/mtu-probe.ts; RFC 1191).
 */
import type { Way } from '../forward/ways.ts';
import { tooBigFor } from '../io/mtu-probe.ts';
import { type OuterError, OuterErrors } from '../io/outer-errors.ts';
import { formatAddress } from '../packet/address.ts';
import type { Fit } from './routes.ts';

/** The ring has few slots, and a stranger fills it as soon as it is empty: the more often it is emptied, the likelier a router's error finds a place. */
const EVERY_MS = 100;
/** Where nothing can be heard, it is tried again so often. */
const DEAF_MS = 1000;
/** A server is tried so often at most, and so many at a time: whoever forges errors has no more than that sent. */
const PAUSE_MS = 10_000;
const TRIES = 8;
/** So many tries in a row of which no router says anything before that is told: a router that limits its errors may have none left for ours. */
const ROUNDS = 3;
/** Links that take less and less, one behind the other. */
const STEPS = 4;
/** As long as Linux remembers what it has learnt (net.ipv4.route.mtu_expires). */
const REMEMBERED_MS = 600_000;
/**
 * Bytes that any link is taken to carry, also where an old router does not say how many: what every host must take whole (RFC 791). Linux's own least is about
 * that (552); 1,280 would be a black hole before links of 576 to 1,279, which IPv4 has.
 */
const LEAST = 576;
const [UNCONFIRMED, UNTRIED] = [0, -1];

type Heard = Pick<OuterErrors, 'hear' | 'take' | 'close'>;

export interface OuterPathsParts {
  /** The ways of wrapped packets. */
  readonly tunnels: () => readonly Way[];
  /** What fits a way, as far as is known. Throws when the kernel cannot be asked. */
  readonly fit: (way: Way) => Fit;
  /** From now on no more than so many bytes fit a way to that server; undefined: what its route says. */
  readonly limit: (server: number, bytes: number | undefined) => void;
  readonly told: (message: string) => void;
  /** Where errors are heard. Throws the system's error. */
  readonly open?: () => Heard;
  /** What a router says of a packet of our own. */
  readonly probe?: typeof tooBigFor;
}

export class OuterPaths {
  readonly #parts: OuterPathsParts;
  readonly #timer: NodeJS.Timeout;
  #errors: Heard | undefined;
  /** Errors about these are heard. */
  #meant: readonly Way[] = [];
  #isDeaf = false;
  /** performance.now(). */
  #deafUntil = 0;
  #isClosed = false;
  #underWay = 0;
  /** When each was tried last (performance.now()), by the server's address; Infinity: that goes on. */
  readonly #tried = new Map<number, number>();
  /** How often in a row no router has said anything of our own packets to each. */
  readonly #unconfirmed = new Map<number, number>();
  /** Until when (performance.now()) each has a limit. */
  readonly #limited = new Map<number, number>();
  /** What was said of each last: the bytes, UNCONFIRMED or UNTRIED. */
  readonly #told = new Map<number, number>();
  #heard = 0;

  /** From now on. */
  constructor(parts: OuterPathsParts) {
    this.#parts = parts;
    this.#timer = setInterval(() => this.look(), EVERY_MS).unref();
  }

  /** Errors about packets to a server of ours. */
  get heard(): number {
    return this.#heard;
  }

  close(): void {
    this.#isClosed = true;
    clearInterval(this.#timer);
    this.#hearNoMore();
  }

  look(): void {
    const ways = this.#parts.tunnels();
    if (this.#knowsAny) this.#forget(new Set(ways.map(({ destination }) => destination)));
    if (ways.length === 0) return this.#hearNoMore();
    for (const error of this.#take(ways)) {
      const meant = ways.filter((way) => way.destination === error.destination && way.port === error.port);
      if (meant.length === 0) continue;
      this.#heard++;
      if (this.#underWay === TRIES || this.#tried.has(error.destination)) continue;
      const found = this.#whichLeaves(meant, error.source);
      // One of before it was learnt, else.
      if (found !== undefined && error.mtu < found.fit.bytes) void this.#try(found.way, error, found.fit);
    }
  }

  /** The one of `ways` whose packets come from that address. */
  #whichLeaves(ways: readonly Way[], source: number): { readonly way: Way; readonly fit: Fit } | undefined {
    try {
      return ways.map((way) => ({ way, fit: this.#parts.fit(way) })).find(({ fit }) => fit.source === source);
    } catch {
      // Where the kernel has no memory for an answer the next error is as good.
      return undefined;
    }
  }

  #take(ways: readonly Way[]): OuterError[] {
    if (performance.now() < this.#deafUntil) return [];
    try {
      this.#errors ??= (this.#parts.open ?? OuterErrors.open)();
      if (ways !== this.#meant) this.#errors.hear(ways);
      this.#meant = ways;
      const errors = this.#errors.take();
      this.#isDeaf = false;
      return errors;
    } catch (error) {
      this.#hearNoMore();
      this.#deafUntil = performance.now() + DEAF_MS;
      if (!this.#isDeaf) this.#parts.told(`what routers say of wrapped packets that are too big is not heard: ${String(error)}`);
      this.#isDeaf = true;
      return [];
    }
  }

  #hearNoMore(): void {
    this.#errors?.close();
    this.#errors = undefined;
    this.#meant = [];
  }

  /** Mostly not, and a look is ten times a second. */
  get #knowsAny(): boolean {
    return [this.#tried, this.#told, this.#unconfirmed, this.#limited].some(({ size }) => size > 0);
  }

  #forget(servers: ReadonlySet<number>): void {
    const now = performance.now();
    for (const [server, at] of this.#tried) if (now - at > PAUSE_MS) this.#tried.delete(server);
    for (const known of [this.#told, this.#unconfirmed]) for (const server of known.keys()) if (!servers.has(server)) known.delete(server);
    for (const [server, until] of this.#limited) {
      if (servers.has(server) && now < until) continue;
      this.#limited.delete(server);
      this.#parts.limit(server, undefined);
    }
  }

  /** Never rejects. */
  async #try(way: Way, error: OuterError, fit: Fit): Promise<void> {
    const { destination } = way;
    this.#tried.set(destination, Infinity);
    this.#underWay++;
    try {
      const learnt = await this.#learn(way, fit);
      if (!this.#isClosed) this.#judge(destination, error, learnt, fit.bytes);
    } catch (failure) {
      const message = `what routers say of packets to server ${formatAddress(destination)} that are too big cannot be verified: ${String(failure)}`;
      if (!this.#isClosed) this.#tellOnce(destination, UNTRIED, message);
    } finally {
      this.#tried.set(destination, performance.now());
      this.#underWay--;
    }
  }

  #judge(destination: number, error: OuterError, learnt: OuterError | undefined, before: number): void {
    const rounds = learnt === undefined ? (this.#unconfirmed.get(destination) ?? 0) + 1 : 0;
    this.#unconfirmed.set(destination, rounds);
    if (learnt !== undefined) this.#tell(destination, learnt, leastOf(learnt), before);
    else if (rounds >= ROUNDS) this.#tell(destination, error, 0, before);
  }

  /** What a router has said of the last packet of ours that was too big; undefined: nobody has said so of any. */
  async #learn({ destination, port }: Way, { bytes, source }: Fit): Promise<OuterError | undefined> {
    const probe = this.#parts.probe ?? tooBigFor;
    const target = { source: formatAddress(source), server: formatAddress(destination), port };
    let last: OuterError | undefined;
    for (let step = 0, now = bytes; step < STEPS; step++) {
      const error = await probe(target, now);
      if (error === undefined || leastOf(error) >= now || this.#isClosed) break;
      [last, now] = [error, leastOf(error)];
      this.#limited.set(destination, performance.now() + REMEMBERED_MS);
      this.#parts.limit(destination, now);
    }
    return last;
  }

  #tell(destination: number, { router, mtu }: OuterError, learnt: number, before: number): void {
    const server = formatAddress(destination);
    if (learnt > 0)
      this.#tellOnce(
        destination,
        learnt,
        `a link on the way to server ${server} takes ${learnt} bytes, says ${router}, and the route there says more: clients' packets that do not fit with their ` +
          `tunnel are answered as too big from now on; so that clients send none, where ICMP is filtered: LB4_MTU=${learnt} sh FILE install on ${server}`,
      );
    else
      this.#tellOnce(
        destination,
        UNCONFIRMED,
        `${router} says that packets of ${before} bytes to server ${server} are too big (${mtu} would fit), but no router says so of packets of lb4's own that ` +
          `are as large, tried ${ROUNDS} times, so it changes nothing: somebody forges, the router limits its errors, and clients' packets use them up, or, of several ` +
          `paths, not all take as much. If it is true, large packets there, uploads, are lost in the tunnel: ` +
          `ip route replace ${server} via GATEWAY dev LINK mtu ${mtu}`,
      );
  }

  #tellOnce(destination: number, what: number, message: string): void {
    if (this.#told.get(destination) === what) return;
    this.#told.set(destination, what);
    this.#parts.told(message);
  }
}

function leastOf({ mtu }: OuterError): number {
  return Math.max(LEAST, mtu);
}
