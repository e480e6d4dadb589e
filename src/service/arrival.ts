/**
 * Do frames that the kernel counts reach lb4? A DROP rule of lb4's counts what it drops, and each of those packets has a copy in the
 * receive ring, unless the rule came first (a bridge with br_netfilter) or the socket is deaf. Only asked while nothing is received.
 */
import type { HostState } from './guard.ts';

export interface ArrivalParts {
  /** Frames that the data path has received so far. */
  readonly received: () => number;
  /** Packets that each of lb4's rules has counted. */
  readonly counted: () => Promise<ReadonlyMap<string, number>>;
}

/** So many packets are no coincidence. */
const PACKETS = 10;
/** Looks in a row: what was received a moment ago may not be entered in the books yet. */
const LOOKS = 2;
/** Within so many looks: a stranger's odd packet now and then, a fragment whose rest never comes, must not add up over a night. */
const WINDOW = 5;

/** For the guard: nothing can be put back here, but it is told, counted, and /healthz knows. */
export function arrival(parts: ArrivalParts): HostState {
  const listening = new Arrival(parts);
  return {
    what: 'frames',
    name: 'frames of frontends',
    usually: '',
    verify: () => listening.missing(),
    repair: async () => {
      throw new Error(
        'the firewall rules see packets that lb4 does not: a bridge with br_netfilter (sysctl -w net.bridge.bridge-nf-call-iptables=0), or its packet socket is deaf: restart lb4; see lb4 doctor',
      );
    },
  };
}

class Arrival {
  readonly #parts: ArrivalParts;
  #received = -1;
  #looks = 0;
  #isDeaf = false;
  /** What the rules had counted when the silence, or the last window of it, began. */
  #base: ReadonlyMap<string, number> = new Map();

  constructor(parts: ArrivalParts) {
    this.#parts = parts;
  }

  /** The rules that count packets while lb4 receives nothing at all, each with how many. */
  async missing(): Promise<string[]> {
    const received = this.#parts.received();
    if (received !== this.#received) {
      this.#received = received;
      this.#looks = 0;
      this.#isDeaf = false;
      this.#base = new Map();
      return [];
    }
    const counted = await this.#parts.counted();
    if (!this.#isDeaf && this.#looks === WINDOW) this.#looks = 0;
    if (this.#looks++ === 0) this.#base = counted;
    const grown = [...counted]
      .map(([rule, packets]) => [rule, packets - (this.#base.get(rule) ?? 0)] as const)
      .filter(([, more]) => more > 0);
    const packets = grown.reduce((sum, [, more]) => sum + more, 0);
    this.#isDeaf ||= this.#looks > LOOKS && packets >= PACKETS;
    if (!this.#isDeaf) return [];
    return grown.map(([rule, more]) => `${rule}: ${more} packets counted, none received`);
  }
}

/** @param saved iptables-save -c of the raw table: `[12:720] -A PREROUTING -d … --comment lb4 -j DROP` */
export function countedBy(saved: string): ReadonlyMap<string, number> {
  const lines = saved.matchAll(/^\[(\d+):\d+\] -A PREROUTING (.*) -m comment --comment lb4 -j (?:DROP|CT --notrack)$/gm);
  return new Map([...lines].map(([, packets, rule = '']) => [rule, Number(packets)]));
}
