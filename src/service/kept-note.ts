/**
 * What the next lb4 had better know if this one is killed, written down before it holds. Nothing waits for a disk that is full: a note
 * that cannot be written is told once, and tried again with the next change.
 */
import { messageOf } from '../errors.ts';
import { readKept, removeNotes, writeKept } from '../io/kept-files.ts';
import type { Logger } from '../log.ts';

interface Note {
  readonly file: string;
  /** For people: what stands in it, and what they are without. */
  readonly what: string;
  readonly without: string;
}

/** All of them; here, so that all can be taken away. */
const NOTES = {
  members: { file: 'members.json', what: 'who has which index', without: 'if lb4 is killed, connections may end' },
  returns: { file: 'returns.json', what: 'the ways back from servers', without: 'if lb4 is killed, connections may end' },
  found: { file: 'found.json', what: 'which servers were found', without: 'the next lb4 has none of them until it finds them itself' },
} as const satisfies Record<string, Note>;

type Name = keyof typeof NOTES;

export class KeptNote {
  readonly #note: Note;
  readonly #log: Pick<Logger, 'info' | 'warn'>;
  readonly #write: typeof writeKept;
  #isFailing = false;
  #written: string | undefined;

  /** @param write to another place: of proxies there may be many, and tests have their own */
  constructor(name: Name, log: Pick<Logger, 'info' | 'warn'>, write = writeKept) {
    this.#note = NOTES[name];
    this.#log = log;
    this.#write = write;
  }

  /** Returns whether it stands there now. Never throws. */
  write(text: string): boolean {
    if (text === this.#written) return true;
    const { file, what, without } = this.#note;
    try {
      this.#write(file, text);
    } catch (error) {
      if (!this.#isFailing) this.#log.warn({ reason: messageOf(error) }, `${what} could not be written down: ${without}`);
      this.#isFailing = true;
      return false;
    }
    this.#written = text;
    if (this.#isFailing) this.#log.info({}, `${what}: written down again`);
    this.#isFailing = false;
    return true;
  }
}

/** What the last one has written; undefined where that is nothing. Throws the system's error. */
export function readNote(name: Name): string | undefined {
  return readKept(NOTES[name].file);
}

/** Takes all of them away. */
export function forgetNotes(): void {
  removeNotes(Object.values(NOTES).map(({ file }) => file));
}
