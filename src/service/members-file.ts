/**
 * The indexes of frontends and servers, written down before a data path goes by them: a flow names its owners by them, and whoever comes
 * after this process must give everybody the same.
 */
import { readKept, writeKept } from '../io/kept-files.ts';
import type { Members, MembersState } from './members.ts';

const FILE = 'members.json';
/** Goes up with every change of {@link MembersState}. */
const VERSION = 1;

export class MembersFile {
  readonly #members: Members;
  #written = -1;

  constructor(members: Members) {
    this.#members = members;
  }

  /** Writes what has changed. Throws the system's error. */
  save(): void {
    const { version } = this.#members;
    if (version === this.#written) return;
    writeKept(FILE, JSON.stringify({ version: VERSION, state: this.#members.state() }));
    this.#written = version;
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
