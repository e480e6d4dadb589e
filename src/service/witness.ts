/**
 * Is one frontend deaf while others are not? Its rule counts packets, and its books stay as they are; but segments without payload and
 * what is answered with a reset enter no frontend's books either. So a witness is asked: a second packet socket that lets up this
 * frontend's frames alone. What the rule counts while it stands, it has heard before, or lb4 does not hear it either.
 */
import type { TransportProtocol } from '../config/model.ts';
import { packetFilter } from '../io/filter.ts';
import { openPacketSocket } from '../io/packet-socket.ts';
import { parseAddress, swap32 } from '../packet/address.ts';
import { ICMP } from '../packet/fields.ts';

/** A frontend, as far as it concerns whether its frames arrive. */
export interface Listened {
  readonly name: string;
  readonly ip: string;
  readonly port: number;
  readonly protocol: TransportProtocol;
  /** Another one whenever lb4 has entered something in this frontend's books: then its frames arrive. */
  readonly counts: string;
}

/** So many packets are no coincidence. */
export const PACKETS = 10;
/** Within so many looks: a stranger's odd packet now and then, a fragment whose rest never comes, must not add up over a night. */
export const WINDOW = 5;

export interface Witness {
  /** Frames since it stands. */
  heard(): number;
  close(): void;
}

export type WitnessOf = (frontend: Pick<Listened, 'ip' | 'port' | 'protocol'>) => Witness;

/** Looks without a suspicion after a witness has heard what the rule counted: idle connections that are kept alive, say. */
const REST = 12;

/**
 * Hears fragments as they come: were they put together for it, they would not be for lb4 (io/native.ts, fanOut).
 * @throws the system's error (ENOMEM …) where this host has no room for one
 */
export function witnessOf({ ip, port, protocol }: Pick<Listened, 'ip' | 'port' | 'protocol'>): Witness {
  const address = swap32(parseAddress(ip)) >>> 0;
  const none = { frontends: [], servers: [], firstPort: 0, lastPort: 0 };
  const asked =
    protocol.number === ICMP
      ? { ...none, echo: { addresses: [address], servers: [] } }
      : { ...none, frontends: [{ address, port, protocol: protocol.number }] };
  const socket = openPacketSocket(1, packetFilter(asked));
  let heard = 0;
  return {
    // Nobody reads its ring, so nearly all are those for which there is no room.
    heard: () => {
      const { received, dropped } = socket.statistics();
      return (heard += received + dropped);
    },
    close: () => socket.close(),
  };
}

/** What the rule has counted, and what the witness has heard of it. */
export interface Testimony {
  readonly counted: number;
  readonly heard: number;
}

/** One frontend, look by look. */
export class Witnessed {
  readonly #witnessOf: WitnessOf;
  #witness: Witness | undefined;
  #deaf: Testimony | undefined;
  #counts = '';
  #looks = 0;
  #rest = 0;
  /** What rule and witness had counted when this window began; undefined: the next look begins one. */
  #from: Testimony | undefined;

  constructor(witness: WitnessOf) {
    this.#witnessOf = witness;
  }

  /** A witness stands. */
  get isAsking(): boolean {
    return this.#witness !== undefined;
  }

  /** Its books have changed since the last look. */
  isHeard(counts: string): boolean {
    return counts !== this.#counts;
  }

  /**
   * What is known against it, until its frames arrive.
   * @param counted by its rule so far; undefined where nobody asked, or there is none
   * @param mayAsk a witness may be called
   */
  look(frontend: Listened, counted: number | undefined, mayAsk: boolean): Testimony | undefined {
    const heard = this.#witness?.heard() ?? 0;
    const from = this.#from;
    const isHeard = this.isHeard(frontend.counts);
    this.#counts = frontend.counts;
    if (isHeard || counted === undefined || from === undefined || counted < from.counted) {
      if (isHeard) this.close();
      this.#begin(counted);
      return this.#deaf;
    }
    const since = { counted: counted - from.counted, heard: heard - from.heard };
    if (this.#deaf !== undefined) return this.#goOn(since, { counted, heard });
    if (this.#rest > 0) {
      this.#rest--;
      this.#begin(counted);
    } else if (since.counted >= PACKETS) this.#judge(frontend, since, mayAsk);
    else if (++this.#looks === WINDOW - 1) {
      this.close();
      this.#begin(counted);
    }
    return this.#deaf;
  }

  close(): void {
    this.#witness?.close();
    this.#witness = undefined;
    this.#deaf = undefined;
  }

  /** All that a witness has heard counts, what the rule counted before not: so the witness is never short of anything. */
  #begin(counted: number | undefined): void {
    this.#looks = 0;
    this.#from = counted === undefined ? undefined : { counted, heard: 0 };
  }

  #judge(frontend: Listened, since: Testimony, mayAsk: boolean): void {
    if (this.#witness === undefined) {
      if (mayAsk) this.#ask(frontend);
    } else if (lacks(since)) this.#deaf = since;
    else {
      this.close();
      this.#from = undefined;
      this.#rest = REST;
    }
  }

  #ask(frontend: Listened): void {
    try {
      this.#witness = this.#witnessOf(frontend);
    } catch {
      // Nothing is proved then, and the next look tries again.
    }
    this.#from = undefined;
  }

  /** It is deaf until it is heard again; when its clients have given up, nothing has changed. */
  #goOn(since: Testimony, now: Testimony): Testimony | undefined {
    this.#from = now;
    if (since.heard > 0 && !lacks(since)) this.close();
    return this.#deaf;
  }
}

/** Not simply none: ICMP errors and fragments for its address, which belong to other ports, are heard as well. */
function lacks({ counted, heard }: Testimony): boolean {
  return heard * 2 < counted;
}
