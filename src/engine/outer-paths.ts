/**
 * Links between this host and a server that take less than the route to it says, where packets are wrapped: who finds out is a router, which tells this host,
 * and whoever sent the packet inside learns nothing. What a router says here nobody can verify; but what it says of a packet that the kernel has sent, the
 * kernel knows to be true, and remembers (RFC 1191; ten minutes of Linux). So the kernel sends one as large, and the way is asked for anew.
 */
import { createSocket } from 'node:dgram';
import type { Way } from '../forward/ways.ts';
import { type OuterError, OuterErrors } from '../io/outer-errors.ts';
import { formatAddress } from '../packet/address.ts';
import type { Fit } from './routes.ts';

const EVERY_MS = 1000;
/** A way is tried so often at most, and so many at a look: whoever forges errors has no more than that sent. */
const PAUSE_MS = 10_000;
const TRIES = 8;
/** Links that take less and less, one behind the other. */
const STEPS = 4;
/** A router answers in so long, or does not. */
const PATIENCE_MS = 1000;
/** Bytes of the headers of IPv4 and UDP. */
const HEADERS = 28;
/** Where nobody listens, of a server that unwraps no UDP (RFC 863). */
const DISCARD = 9;
/** The first byte of a variant of GUE that there is none of: who unwraps it drops it. */
const NO_VARIANT = 0xc0;

export interface OuterPathsParts {
  /** The ways of wrapped packets. */
  readonly tunnels: () => readonly Way[];
  /** What fits a way, as far as the kernel knows. Throws when it cannot be asked. */
  readonly fit: (way: Way) => Fit;
  /** Has all ways asked for anew. */
  readonly refresh: () => void;
  readonly told: (message: string) => void;
  /** Where errors are heard. Throws the system's error. */
  readonly open?: () => Pick<OuterErrors, 'take' | 'close'>;
}

export class OuterPaths {
  readonly #parts: OuterPathsParts;
  readonly #timer: NodeJS.Timeout;
  #errors: Pick<OuterErrors, 'take' | 'close'> | undefined;
  #isDeaf = false;
  #isClosed = false;
  /** When each was tried last (performance.now()), by the server's address. */
  readonly #tried = new Map<number, number>();
  /** What was said of each, in bytes; 0: that the kernel does not learn it. */
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
    this.#forget(new Set(ways.map(({ destination }) => destination)));
    if (ways.length === 0) return this.#hearNoMore();
    let tries = 0;
    for (const error of this.#take()) {
      const meant = ways.filter((way) => way.destination === error.destination && way.port === error.port);
      if (meant.length === 0) continue;
      this.#heard++;
      if (tries === TRIES || this.#tried.has(error.destination)) continue;
      const found = this.#whichLeaves(meant, error.source);
      if (found === undefined) continue;
      tries++;
      this.#tried.set(error.destination, performance.now());
      // Where the kernel has no memory for an answer the next error is as good.
      this.#try(found.way, error, found.fit).catch(() => {});
    }
  }

  /** The one of `ways` whose packets come from that address. */
  #whichLeaves(ways: readonly Way[], source: number): { readonly way: Way; readonly fit: Fit } | undefined {
    try {
      return ways.map((way) => ({ way, fit: this.#parts.fit(way) })).find(({ fit }) => fit.source === source);
    } catch {
      // As above.
      return undefined;
    }
  }

  #take(): OuterError[] {
    try {
      this.#errors ??= (this.#parts.open ?? OuterErrors.open)();
      this.#isDeaf = false;
      return this.#errors.take();
    } catch (error) {
      if (!this.#isDeaf) this.#parts.told(`what routers say of wrapped packets that are too big is not heard: ${String(error)}`);
      this.#isDeaf = true;
      return [];
    }
  }

  #hearNoMore(): void {
    this.#errors?.close();
    this.#errors = undefined;
  }

  #forget(servers: ReadonlySet<number>): void {
    const now = performance.now();
    for (const [server, at] of this.#tried) if (now - at > PAUSE_MS) this.#tried.delete(server);
    for (const server of this.#told.keys()) if (!servers.has(server)) this.#told.delete(server);
  }

  async #try(way: Way, error: OuterError, { bytes: before, link, source }: Fit): Promise<void> {
    const { fit, refresh } = this.#parts;
    // One of before, or the kernel knows it already.
    if (error.mtu >= before) {
      refresh();
      if (before < link) this.#tell(way, error, before, before);
      return;
    }
    let now = before;
    for (let step = 0; step < STEPS && (await isTooBig(way, source, now)); step++) {
      const less = this.#isClosed ? now : fit(way).bytes;
      if (less >= now) break;
      now = less;
    }
    if (this.#isClosed) return;
    refresh();
    this.#tell(way, error, now < before ? now : 0, before);
  }

  #tell({ destination }: Way, { router, mtu }: OuterError, learnt: number, before: number): void {
    if (this.#told.get(destination) === learnt) return;
    this.#told.set(destination, learnt);
    const server = formatAddress(destination);
    if (learnt > 0)
      this.#parts.told(
        `a link on the way to server ${server} takes ${learnt} bytes, says ${router}, and the route there says more: clients' packets that do not fit with their ` +
          `tunnel are answered as too big from now on; so that clients send none, where ICMP is filtered: LB4_MTU=${learnt} sh FILE install on ${server}`,
      );
    else
      this.#parts.told(
        `${router} says that packets of ${before} bytes to server ${server} are too big (${mtu} would fit), and the kernel does not learn it: large packets there, ` +
          `uploads, are lost in the tunnel, if it is true; is ICMP to this host filtered? Else: ip route replace ${server} via GATEWAY dev LINK mtu ${mtu}`,
      );
  }
}

/** Has the kernel send a packet of so many bytes that may not be cut; whether it has been told that it is too big. Never rejects. */
async function isTooBig({ destination, port }: Way, source: number, bytes: number): Promise<boolean> {
  const socket = createSocket('udp4');
  const told = new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
    const timer = setTimeout(() => resolve(undefined), PATIENCE_MS);
    const end = (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      resolve(error);
    };
    socket.on('error', end);
    socket.bind(0, formatAddress(source), () => {
      socket.connect(port || DISCARD, formatAddress(destination), (error?: Error) => {
        if (error !== undefined) return end(error);
        const data = Buffer.alloc(bytes - HEADERS);
        data[0] = NO_VARIANT;
        socket.send(data, (failed) => failed && end(failed));
      });
    });
  });
  const error = await told;
  socket.close();
  return error?.code === 'EMSGSIZE';
}
