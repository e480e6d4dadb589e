/**
 * How many connections each source has, where a frontend limits that (access/source-table.ts). Each connection says itself whether it is
 * counted, and as a source of how many bits (LIFE: SOURCE_BITS): so it is taken out as what it was counted as, whatever the file says by then, and
 * however it ends. The sweep sees to it that all are counted as the file says now.
 */
import type { Guard } from '../access/guard.ts';
import type { SourceTable } from '../access/source-table.ts';
import * as T from '../flow/life.ts';
import type { Records } from '../flow/records.ts';
import type { FlowTable } from '../flow/table.ts';
import * as C from '../layout/connection.ts';
import * as Flow from '../layout/flow.ts';
import type { Services } from './services.ts';

interface SourceCountsParts {
  readonly table: FlowTable;
  readonly records: Records;
  readonly services: Services;
  readonly sources: SourceTable;
}

export class SourceCounts {
  readonly #table: FlowTable;
  readonly #records: Records;
  readonly #services: Services;
  readonly #sources: SourceTable;

  constructor({ table, records, services, sources }: SourceCountsParts) {
    this.#table = table;
    this.#records = records;
    this.#services = services;
    this.#sources = sources;
  }

  /** Counts the connection with the record at word `r` and that LIFE word, if it is to be. Returns the LIFE word, marked. */
  enter(r: number, life: number): number {
    const guard = this.#guardOf(r);
    const bits = guard?.countedBits ?? 0;
    if (guard === undefined || bits === 0 || !isCountable(life)) return life & ~T.SOURCE_BITS;
    const isEntered = this.#sources.enter(guard.hashOf(this.#sourceOf(r), bits), this.#seenOf(r));
    return isEntered ? (life & ~T.SOURCE_BITS) | (bits << T.SOURCE_SHIFT) : life & ~T.SOURCE_BITS;
  }

  /** Takes it out. Returns the LIFE word, which says so. */
  leave(r: number, life: number): number {
    const bits = bitsOf(life);
    if (bits === 0) return life;
    this.#sources.leave(this.#services.sourceHash(this.#records.words[r + C.OWNER] >>> 16, this.#sourceOf(r), bits));
    return life & ~T.SOURCE_BITS;
  }

  /** Has it counted as the file says now. */
  renew(r: number): void {
    const { words } = this.#records;
    const life = words[r + C.LIFE];
    const wanted = isCountable(life) ? (this.#guardOf(r)?.countedBits ?? 0) : 0;
    if (wanted !== bitsOf(life)) words[r + C.LIFE] = this.enter(r, this.leave(r, life));
  }

  #guardOf(r: number): Guard | undefined {
    return this.#services.frontendOf(this.#records.words[r + C.OWNER] >>> 16)?.guard;
  }

  #firstOf(r: number): number {
    return this.#records.words[r + C.FIRST] << Flow.ENTRY_SHIFT;
  }

  #sourceOf(r: number): number {
    return this.#table.words[this.#firstOf(r) + Flow.SOURCE];
  }

  #seenOf(r: number): number {
    return this.#table.words[this.#firstOf(r) + Flow.SEEN];
  }
}

/** What nobody has seen opened uses up no limit; an answer under way is no connection. */
function isCountable(life: number): boolean {
  return (life & T.STATE_MASK) < T.TIME_WAIT && (life & (T.ADOPTED | T.ANSWER_ONLY)) === 0;
}

function bitsOf(life: number): number {
  return (life & T.SOURCE_BITS) >>> T.SOURCE_SHIFT;
}
