/** The records of connections (layout/connection.ts): given out and taken back; the free ones are a list through the memory itself. */
import { FIRST, LIFE, RECORD, RECORD_SHIFT } from '../layout/connection.ts';
import { NONE } from '../layout/flow.ts';

/** Records that share one count of those taken: a sweep passes over the groups without any. A power of two. */
export const GROUP = 128;
const GROUP_SHIFT = 7;

/** All records of one core. */
export class Records {
  readonly words: Int32Array;
  /** How many there are. */
  readonly capacity: number;
  #live = 0;
  /** Records taken of each group: memory of this writer's own. */
  readonly #groups: Uint8Array;
  /** The first of those given back, and the first that was never given out. */
  #free = NONE;
  #fresh = 0;

  /** @param memory RECORD words each, zeroed or left by another process (then {@link recount}) */
  constructor(memory: Int32Array) {
    this.words = memory;
    this.capacity = memory.length / RECORD;
    this.#groups = new Uint8Array(Math.ceil(this.capacity / GROUP));
  }

  /** Finds out which records are taken: those with a LIFE. */
  recount(): void {
    this.#live = 0;
    this.#free = NONE;
    this.#fresh = 0;
    this.#groups.fill(0);
    const { words } = this;
    for (let record = this.capacity - 1; record >= 0; record--) {
      const at = record << RECORD_SHIFT;
      if (words[at + LIFE] !== 0) {
        this.#add(record, 1);
        this.#fresh ||= record + 1;
      } else if (this.#fresh !== 0) {
        words[at + FIRST] = this.#free;
        this.#free = record;
      }
    }
  }

  /** Connections there are. */
  get size(): number {
    return this.#live;
  }

  get isFull(): boolean {
    return this.#live === this.capacity;
  }

  /** The index of a free record, which is taken once its LIFE is written; NONE when all are. */
  claim(): number {
    const record = this.#free;
    if (record === NONE) {
      if (this.#fresh === this.capacity) return NONE;
      this.#add(this.#fresh, 1);
      return this.#fresh++;
    }
    this.#free = this.words[(record << RECORD_SHIFT) + FIRST];
    this.#add(record, 1);
    return record;
  }

  release(record: number): void {
    const at = record << RECORD_SHIFT;
    this.words[at + LIFE] = 0;
    this.words[at + FIRST] = this.#free;
    this.#free = record;
    this.#add(record, -1);
  }

  isTaken(record: number): boolean {
    return this.words[(record << RECORD_SHIFT) + LIFE] !== 0;
  }

  /** The first record from `record` on that may be taken, `end` at most: empty groups are passed over. */
  skipFree(record: number, end: number): number {
    let at = record;
    while (at < end && this.#groups[at >>> GROUP_SHIFT] === 0) at = (at | (GROUP - 1)) + 1;
    return Math.min(at, end);
  }

  #add(record: number, change: number): void {
    this.#live += change;
    this.#groups[record >>> GROUP_SHIFT] += change;
  }
}
