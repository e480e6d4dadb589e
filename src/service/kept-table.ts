/** The table that is to outlive lb4, for the guard: whoever cleans up a tmpfs takes it away, and nobody would notice until lb4 dies. */
import { FailureError } from '../errors.ts';
import type { HostState } from './guard.ts';

/** @param lost its path, where it is not there any more */
export function keptTable(lost: () => string | undefined): HostState {
  return {
    what: 'kept_table',
    name: 'the table that outlives lb4',
    usually: 'whoever cleans up a tmpfs does this',
    words: { wrong: 'it is gone', well: 'there again' },
    serves: true,
    verify: async () => {
      const path = lost();
      return path === undefined ? [] : [path];
    },
    // A file without a name never gets one again (link(2)).
    repair: () => Promise.reject(new FailureError('connections end if lb4 is killed; a restart, which ends them, too, makes another one')),
  };
}
