/**
 * The indexes of frontends and servers, written down before a data path goes by them: a flow names its owners by them, and whoever comes
 * after this process must give everybody the same.
 */
import type { Config } from '../config/model.ts';
import type { PacketMode } from '../config/modes.ts';
import { assertServiceSet } from '../engine/engine.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { KeptNote, readNote } from './kept-note.ts';
import { Members, type MembersState } from './members.ts';
import { settingsOf } from './packet-path.ts';
import { makePlan, UNCHECKED } from './plan.ts';

/** Goes up with every change of {@link MembersState}, that is also of the frontends, backends and servers of config/model.ts. */
export const VERSION = 3;

/**
 * Without it the next lb4 gives out indexes anew, and connections whose owner got another one end: each element of the shared memory
 * says by address and port who it is (layout/counters.ts: PLACE).
 */
export class MembersFile {
  readonly #members: Members;
  readonly #note: KeptNote;
  #written = -1;

  /** @param write for tests: another place */
  constructor(members: Members, log: Pick<Logger, 'info' | 'warn'>, write?: ConstructorParameters<typeof KeptNote>[2]) {
    this.#members = members;
    this.#note = new KeptNote('members', log, write);
  }

  /** Writes what has changed. Never throws. */
  save(): void {
    const { version } = this.#members;
    if (version !== this.#written && this.#note.write(textOf(this.#members.state()))) this.#written = version;
  }
}

/** What stands in the file. */
export function textOf(state: MembersState): string {
  return JSON.stringify({ version: VERSION, state });
}

/** No packet goes by what is asserted alone. */
const nobodyRanks = () => new Uint16Array(0);

/**
 * Those of `config`, with the indexes that they had when an lb4 died; where that cannot be known, with new ones, and the log says why:
 * whoever gets an index that was another's begins anew (forward/ledger.ts).
 * @param read what the last one has written; undefined where that is nothing
 */
export function membersAfter(
  config: Config,
  mode: PacketMode,
  log: Logger,
  read: () => string | undefined = () => readNote('members'),
): Members {
  try {
    const members = new Members(config, stateIn(read()));
    // Nobody vouches for what stands there: it must do for all that is made of it.
    assertServiceSet(settingsOf(makePlan(config, mode, members, UNCHECKED, undefined, nobodyRanks), mode).services);
    return members;
  } catch (error) {
    log.warn(
      { reason: messageOf(error) },
      'which frontends and servers an lb4 that died had cannot be told: their connections may be lost',
    );
    return new Members(config);
  }
}

function stateIn(text: string | undefined): MembersState {
  if (text === undefined) throw new Error('what it has written is not there');
  const { version, state } = JSON.parse(text) as { version?: number; state?: MembersState };
  if (version !== VERSION || state === undefined) throw new Error(`it has written version ${version}, this lb4 writes version ${VERSION}`);
  return state;
}
