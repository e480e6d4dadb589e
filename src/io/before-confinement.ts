/** What takes more of root's privileges than a balancer keeps (confinement.ts), done before it gives them away. */

import { removeAbandoned } from './kept-abandoned.ts';
import { tmpfs } from './kept-places.ts';
import { deathIsOver, isNamespaceFree } from './namespace-lock.ts';
import { hasPins, mountBpffs } from './pins.ts';
import { removeStrays } from './strays.ts';

/**
 * Never rejects: who needs it looks again, and says what lacks.
 * @param mayBeFast the configuration may ask for a fast path
 */
export async function prepare({ isPacketMode, mayBeFast }: { readonly isPacketMode: boolean; readonly mayBeFast: boolean }): Promise<void> {
  // Whose network namespaces are gone, only who may look at every process can tell (CAP_SYS_PTRACE).
  for (const root of tmpfs()) removeAbandoned(root);
  if (!isPacketMode) return;
  // Programs have names for CAP_SYS_ADMIN alone. With pins to be seen there may be an adoption, which takes away what does not belong to it.
  if (!hasPins()) await removeStraysOfTheDead();
  if (mayBeFast) quietly(mountBpffs);
}

/** Those of one that is just dying are nobody's yet, and later nobody here may take them away. */
async function removeStraysOfTheDead(): Promise<void> {
  try {
    await deathIsOver();
    removeStrays(false, isNamespaceFree);
  } catch {
    // The data path's own start says so.
  }
}

function quietly(act: () => void): void {
  try {
    act();
  } catch {
    // The data path's own start says so.
  }
}
