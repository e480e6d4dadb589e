/** The lock of this network namespace and the scripts' notes beside it, for the guard: `rm -rf /run/lb4` takes both away. */
import type { NamespaceLock } from '../io/namespace-lock.ts';
import type { HostState } from './guard.ts';

export function hostLock(lock: Pick<NamespaceLock, 'missing' | 'putBack'>): HostState {
  return {
    what: 'lock',
    name: 'the lock and notes in /run/lb4',
    usually: 'whoever cleans up /run does this',
    verify: async () => {
      const file = lock.missing();
      return file === undefined ? [] : [file];
    },
    repair: async () => lock.putBack(),
  };
}
