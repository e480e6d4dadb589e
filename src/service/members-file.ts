/**
 * The indexes of frontends and servers, written down before a data path goes by them: a flow names its owners by them, and whoever comes
 * after this process must give everybody the same.
 */
import { messageOf } from '../errors.ts';
import { readKept, writeKept } from '../io/kept-files.ts';
import type { Logger } from '../log.ts';
import type { Members, MembersState } from './members.ts';

const FILE = 'members.json';
/** Goes up with every change of {@link MembersState}. */
const VERSION = 1;

/**
 * Without it the next lb4 gives out indexes anew, and connections whose owner got another one end: each element of the shared memory
 * says by address and port who it is (layout/counters.ts: PLACE). So nothing waits for a disk that is full.
 */
export class MembersFile {
  readonly #members: Members;
  readonly #log: Pick<Logger, 'info' | 'warn'>;
  readonly #write: typeof writeKept;
  #written = -1;
  #isFailing = false;

  /** @param write for tests: another place */
  constructor(members: Members, log: Pick<Logger, 'info' | 'warn'>, write = writeKept) {
    this.#members = members;
    this.#log = log;
    this.#write = write;
  }

  /** Writes what has changed. Never throws: what cannot be written is told once, and tried again with the next plan. */
  save(): void {
    const { version } = this.#members;
    if (version === this.#written) return;
    try {
      this.#write(FILE, JSON.stringify({ version: VERSION, state: this.#members.state() }));
    } catch (error) {
      if (!this.#isFailing)
        this.#log.warn(
          { reason: messageOf(error) },
          'who has which index could not be written down: if lb4 is killed, connections may end',
        );
      this.#isFailing = true;
      return;
    }
    this.#written = version;
    if (this.#isFailing) this.#log.info({}, 'who has which index is written down again');
    this.#isFailing = false;
  }
}

/** What the last one has written; undefined where that is nothing, or of another version. */
export function readMembers(): MembersState | undefined {
  try {
    const { version, state } = JSON.parse(readKept(FILE) ?? '{}') as { version?: number; state?: MembersState };
    return version === VERSION ? state : undefined;
  } catch {
    return undefined;
  }
}
