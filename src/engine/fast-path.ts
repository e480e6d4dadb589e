/** The fast path of an engine whose memory is new, in place of whatever another lb4 has left in the kernel. */
import { FastPathError, messageOf, resourceError } from '../errors.ts';
import type { Wanted } from '../io/attachments.ts';
import { FastPath } from '../io/fast-path.ts';
import { removePins } from '../io/pins.ts';
import { removeStrays } from '../io/strays.ts';
import type { HashKey, Room } from '../layout/memory.ts';

export interface FastPathOptions {
  readonly fastPath: Wanted | 'off';
  /** Whoever forwards can map the kernel's maps. */
  readonly takesMaps: boolean;
  /** Something people should know. */
  readonly told?: ((message: string) => void) | undefined;
}

/**
 * Before any port is given to a client: what is left there would go on with flows of its own.
 * @param isLost an lb4 that died had one, and its maps are not to be found
 * @returns undefined: it shall not be, or cannot be had and need not
 * @throws {@link FastPathError} where it cannot be had and must, or where another lb4's programs stand and cannot be taken away
 */
export function makeFastPath(room: Room, key: HashKey, isLost: boolean, options: FastPathOptions): FastPath | undefined {
  const made = create(room, key, options);
  try {
    const isLeft = made === undefined && !clear(options);
    removeStrays(isLost || isLeft);
    return made;
  } catch (error) {
    if (made !== undefined) {
      made.close();
      clear(options);
    }
    throw resourceError(error) ?? new FastPathError(messageOf(error), { cause: error });
  }
}

function create(room: Room, key: HashKey, { fastPath, takesMaps, told }: FastPathOptions): FastPath | undefined {
  if (fastPath === 'off') return undefined;
  try {
    if (!takesMaps) throw new Error('io = "pcap" cannot use its maps');
    return FastPath.create(room, key);
  } catch (error) {
    const message = `no fast path in the kernel: ${messageOf(error)}`;
    if (fastPath !== 'auto') throw new FastPathError(`fast_path = "${fastPath}": ${message}`);
    told?.(message);
    return undefined;
  }
}

/** Whether nothing is pinned any more. */
function clear({ told }: FastPathOptions): boolean {
  try {
    removePins();
    return true;
  } catch (error) {
    told?.(`what another lb4 has pinned cannot be removed: ${messageOf(error)}`);
    return false;
  }
}
