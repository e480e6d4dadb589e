/**
 * What the next lb4 had better know if this one is killed, written down before it holds. Nothing waits for a disk that is full: a note
 * that cannot be written is told once, and tried again with the next change.
 */
import { messageOf } from '../errors.ts';
import { readKept, removeNotes, writeKept } from '../io/kept-files.ts';
import type { Logger } from '../log.ts';

/** The files; here, so that all of them can be taken away. */
const FILES = { members: 'members.json', returns: 'returns.json', found: 'found.json' } as const;

type Name = keyof typeof FILES;

export class KeptNote {
  readonly #name: Name;
  /** For people: what is lost without it. */
  readonly #what: string;
  readonly #log: Pick<Logger, 'info' | 'warn'>;
  readonly #write: typeof writeKept;
  #isFailing = false;
  #written: string | undefined;

  /** @param write for tests: another place */
  constructor(name: Name, what: string, log: Pick<Logger, 'info' | 'warn'>, write = writeKept) {
    this.#name = name;
    this.#what = what;
    this.#log = log;
    this.#write = write;
  }

  /** Returns whether it stands there now. Never throws. */
  write(text: string): boolean {
    if (text === this.#written) return true;
    try {
      this.#write(FILES[this.#name], text);
    } catch (error) {
      if (!this.#isFailing)
        this.#log.warn({ reason: messageOf(error) }, `${this.#what} could not be written down: if lb4 is killed, connections may end`);
      this.#isFailing = true;
      return false;
    }
    this.#written = text;
    if (this.#isFailing) this.#log.info({}, `${this.#what}: written down again`);
    this.#isFailing = false;
    return true;
  }
}

/** What the last one has written; undefined where that is nothing. Throws the system's error. */
export function readNote(name: Name): string | undefined {
  return readKept(FILES[name]);
}

/** Takes all of them away. */
export function forgetNotes(): void {
  removeNotes(Object.values(FILES));
}
