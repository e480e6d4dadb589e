/**
 * Who has which index. Data paths know frontends and servers by a small number, and an index must not pass to somebody else while
 * a connection or a counter of its last owner is left.
 *
 *     here ── left the file ──► leaving ── no connection left, or out of time ──► gone ── a while ──► the index is free
 *       ◄── came back ─────────────┘
 */
import { addTotals, NOTHING, type Totals } from '../control/source.ts';

/** Somebody who needs an index. */
export interface Member<T> {
  /** Unique; somebody with another key is somebody else. */
  readonly key: string;
  /** Whose counters its own are added to when it is gone. */
  readonly group: string;
  readonly item: T;
  /** How long its connections may go on when it leaves. */
  readonly drainMs: number;
}

export interface Entry<T> extends Member<T> {
  readonly index: number;
  readonly leaving: boolean;
}

/** What a roster knows, as plain data, with each item as whoever keeps it writes it. */
export interface RosterState<S> {
  readonly next: number;
  readonly free: readonly number[];
  readonly retired: readonly (readonly [group: string, totals: Totals])[];
  readonly allocations: readonly {
    readonly key: string;
    readonly index: number;
    readonly phase: 'here' | 'leaving' | 'gone';
    readonly member: Omit<Member<unknown>, 'item'> & { readonly item: S };
  }[];
}

/** A connection may be opened just as its server leaves: an idle one is waited for so long at least. */
const LINGER_MS = 1000;

interface Allocation<T> {
  member: Member<T>;
  readonly index: number;
  /** When it left the file. */
  left: number | undefined;
  /** When it left the data path. */
  gone: number | undefined;
}

/** What an index has counted by now. `load`: connections now, those still opening included. */
export type CountersOf = (index: number) => Totals & { readonly load: number };

export class Roster<T> {
  #allocations = new Map<string, Allocation<T>>();
  #free: number[] = [];
  readonly #retired = new Map<string, Totals>();
  readonly #settledMs: number;
  #next = 0;
  #version = 0;

  /** @param settledMs after so many ms a data path has removed the connections of who is gone, and has collected their bytes */
  constructor(settledMs: number) {
    this.#settledMs = settledMs;
  }

  /** Another number whenever an index was given or taken back, or somebody began to leave. */
  get version(): number {
    return this.#version;
  }

  /** All that {@link restore} needs. */
  state<S>(write: (item: T) => S): RosterState<S> {
    const allocations = [...this.#allocations].map(([key, { member, index, left, gone }]) => {
      const phase = gone !== undefined ? ('gone' as const) : left !== undefined ? ('leaving' as const) : ('here' as const);
      return { key, index, phase, member: { ...member, item: write(member.item) } };
    });
    return { next: this.#next, free: this.#free, retired: [...this.#retired], allocations };
  }

  /** Goes on as an lb4 that died was, at `now` (ms, monotonic): whoever was leaving has all its time again. To be called first. */
  restore<S>({ next, free, retired, allocations }: RosterState<S>, read: (item: S) => T, now: number): void {
    this.#next = next;
    this.#free = [...free];
    for (const [group, totals] of retired) this.#retired.set(group, totals);
    for (const { key, index, phase, member } of allocations) {
      const left = phase === 'here' ? undefined : now;
      this.#allocations.set(key, { member: { ...member, item: read(member.item) }, index, left, gone: phase === 'gone' ? now : undefined });
    }
  }

  /**
   * Makes `members` those who are here. Others begin to leave, at `now` (ms, monotonic). Idempotent.
   * Returns what takes it back: nobody must have been told of it.
   */
  set(members: readonly Member<T>[], now: number): () => void {
    const before = {
      allocations: new Map([...this.#allocations].map(([key, allocation]) => [key, { ...allocation }])),
      free: [...this.#free],
      next: this.#next,
    };
    this.#version++;
    const wanted = new Map(members.map((member) => [member.key, member]));
    for (const [key, allocation] of this.#allocations) if (!wanted.has(key)) allocation.left ??= now;
    for (const member of members) this.#allocate(member);
    return () => {
      this.#allocations = before.allocations;
      this.#free = before.free;
      this.#next = before.next;
      this.#version++;
    };
  }

  /** Those who are here or leaving, in the order in which they came. */
  entries(): Entry<T>[] {
    const allocations = [...this.#allocations.values()].filter(({ gone }) => gone === undefined);
    return allocations.map(({ member, index, left }) => ({ ...member, index, leaving: left !== undefined }));
  }

  /** Somebody who is here or leaving. */
  get(key: string): Member<T> | undefined {
    const allocation = this.#allocations.get(key);
    return allocation?.gone === undefined ? allocation?.member : undefined;
  }

  /** Whether somebody is on the way out: then {@link expire} wants to be called now and then. */
  get isSettling(): boolean {
    return [...this.#allocations.values()].some(({ left }) => left !== undefined);
  }

  /**
   * Lets go who has no connection left or is out of time. Returns whether the data path must be told.
   * @param gone hears of each, with the connections that it still had
   */
  expire(now: number, counters: CountersOf, gone: (key: string, connections: number) => void = () => {}): boolean {
    let changed = false;
    for (const [key, allocation] of this.#allocations) {
      if (allocation.left === undefined) continue;
      if (allocation.gone === undefined) {
        const { load } = counters(allocation.index);
        const isDone = now - allocation.left >= LINGER_MS && load === 0;
        if (!isDone && now - allocation.left < allocation.member.drainMs) continue;
        allocation.gone = now;
        gone(key, load);
        changed = true;
        this.#version++;
      } else if (now - allocation.gone >= this.#settledMs) this.#retire(key, allocation, counters);
    }
    return changed;
  }

  /**
   * What those of a group counted who are gone.
   * @param listed indexes that are counted elsewhere: of who has gone so lately that the data path has not been told yet
   */
  retired(group: string, counters: CountersOf, listed: ReadonlySet<number> = new Set()): Totals {
    const gone = [...this.#allocations.values()].filter((allocation) => allocation.gone !== undefined && allocation.member.group === group);
    const unlisted = gone.filter(({ index }) => !listed.has(index));
    return unlisted.map(({ index }) => counters(index)).reduce(addTotals, this.#retired.get(group) ?? NOTHING);
  }

  /** Adds to what those of a group counted who are gone. */
  credit(group: string, totals: Totals): void {
    this.#retired.set(group, addTotals(this.#retired.get(group) ?? NOTHING, totals));
  }

  #allocate(member: Member<T>): void {
    const allocation = this.#allocations.get(member.key);
    if (allocation === undefined || allocation.gone !== undefined) {
      // Whoever comes back after it was gone is new: its old index still settles.
      if (allocation !== undefined) this.#rename(allocation);
      this.#allocations.set(member.key, { member, index: this.#free.shift() ?? this.#next++, left: undefined, gone: undefined });
    } else {
      allocation.member = member;
      allocation.left = undefined;
    }
  }

  #rename(allocation: Allocation<T>): void {
    this.#allocations.delete(allocation.member.key);
    this.#allocations.set(`${allocation.member.key} (gone, ${allocation.index})`, allocation);
  }

  #retire(key: string, { index, member }: Allocation<T>, counters: CountersOf): void {
    this.credit(member.group, counters(index));
    this.#allocations.delete(key);
    this.#free.push(index);
    // Groups come and go, too. Whose last member is gone is named nowhere any more.
    if (member.group !== '' && ![...this.#allocations.values()].some((allocation) => allocation.member.group === member.group))
      this.#retired.delete(member.group);
  }
}
