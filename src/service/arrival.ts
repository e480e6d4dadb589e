/**
 * Do frames that the kernel counts reach lb4? A DROP rule of lb4's counts what it drops, and each of those packets has a copy in the
 * receive ring, unless the rule came first (a bridge with br_netfilter) or the socket is deaf. Asked in two ways: of all together, while
 * nothing at all is received; and of each frontend, since one that is deaf hides behind the traffic of others.
 */
import { matchFor } from '../rules/saved.ts';
import type { HostState } from './guard.ts';
import { type Listened, PACKETS, WINDOW, Witnessed, type WitnessOf } from './witness.ts';

export interface ArrivalParts {
  /** Frames that the data path has received so far. */
  readonly received: () => number;
  /** Packets that each of lb4's rules has counted. */
  readonly counted: () => Promise<ReadonlyMap<string, number>>;
  /** Those that are served now. */
  readonly frontends: () => readonly Listened[];
  readonly witnessOf: WitnessOf;
}

/** Looks in a row: what was received a moment ago may not be entered in the books yet. */
const LOOKS = 2;
/** Of frontends at the same time: each witness costs memory, and every frame of the host a look. */
const WITNESSES = 4;

/** For the guard: nothing can be put back here, but it is told, counted, and /healthz knows. */
export class Arrival implements HostState {
  readonly what = 'frames';
  readonly name = 'frames of frontends';
  readonly usually = '';
  readonly #parts: ArrivalParts;
  readonly #all = new AllTogether();
  #each = new Map<string, Witnessed>();

  constructor(parts: ArrivalParts) {
    this.#parts = parts;
  }

  async verify(): Promise<string[]> {
    const listened = new Map(this.#parts.frontends().map((frontend) => [matchFor(frontend, frontend.protocol), frontend]));
    const received = this.#parts.received();
    // Reading the rules costs as much as the guard's whole look: not where there is nothing to suspect.
    const isSuspect = !this.#all.isHeard(received) || [...listened].some(([rule, { counts }]) => !this.#each.get(rule)?.isHeard(counts));
    const counted = isSuspect ? await this.#parts.counted() : new Map<string, number>();
    const each = this.#look(listened, counted);
    const deaf = this.#all.look(received, counted);
    if (deaf.length === 0) return each;
    return deaf.map(([rule, more]) => `${describe(listened.get(rule)) ?? rule}: ${more} packets counted, none received`);
  }

  async repair(): Promise<void> {
    throw new Error(
      'the firewall rules see packets that lb4 does not: a bridge with br_netfilter (sysctl -w net.bridge.bridge-nf-call-iptables=0), or its packet socket is deaf: restart lb4; see lb4 doctor',
    );
  }

  close(): void {
    for (const one of this.#each.values()) one.close();
    this.#each.clear();
  }

  #look(listened: ReadonlyMap<string, Listened>, counted: ReadonlyMap<string, number>): string[] {
    for (const [rule, one] of this.#each) if (!listened.has(rule)) one.close();
    this.#each = new Map([...listened.keys()].map((rule) => [rule, this.#each.get(rule) ?? new Witnessed(this.#parts.witnessOf)]));
    let free = WITNESSES - [...this.#each.values()].filter(({ isAsking }) => isAsking).length;
    return [...listened].flatMap(([rule, frontend]) => {
      const one = this.#each.get(rule) as Witnessed;
      const wasAsking = one.isAsking;
      const deaf = one.look(frontend, counted.get(rule), free > 0);
      free += Number(wasAsking) - Number(one.isAsking);
      return deaf === undefined ? [] : [`${describe(frontend)}: ${deaf.counted} packets counted, ${deaf.heard || 'none'} received`];
    });
  }
}

class AllTogether {
  #received = -1;
  #looks = 0;
  #isDeaf = false;
  /** What the rules had counted when the silence, or the last window of it, began. */
  #base: ReadonlyMap<string, number> = new Map();

  /** Something has arrived since the last look. */
  isHeard(received: number): boolean {
    return received !== this.#received;
  }

  /** The rules that count packets while lb4 receives nothing at all, each with how many. */
  look(received: number, counted: ReadonlyMap<string, number>): (readonly [rule: string, packets: number])[] {
    if (this.isHeard(received)) {
      this.#received = received;
      this.#looks = 0;
      this.#isDeaf = false;
      return [];
    }
    if (!this.#isDeaf && this.#looks === WINDOW) this.#looks = 0;
    if (this.#looks++ === 0) this.#base = counted;
    const grown = [...counted]
      .map(([rule, packets]) => [rule, packets - (this.#base.get(rule) ?? 0)] as const)
      .filter(([, more]) => more > 0);
    const packets = grown.reduce((sum, [, more]) => sum + more, 0);
    this.#isDeaf ||= this.#looks > LOOKS && packets >= PACKETS;
    return this.#isDeaf ? grown : [];
  }
}

function describe(frontend: Listened | undefined): string | undefined {
  return frontend && `frontend ${frontend.name} (${frontend.ip}${frontend.port === 0 ? '' : `:${frontend.port}`})`;
}
