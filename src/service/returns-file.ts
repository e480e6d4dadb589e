/**
 * The ways back that firewall rules stand for, written down before the rules are: a connection whose frontend has another backend by
 * now still comes back by one, and without its rule the kernel resets it.
 */
import type { Logger } from '../log.ts';
import type { KeptReturns } from './firewall.ts';
import { KeptNote, readNote } from './kept-note.ts';

/** @param isLeft there are connections of an lb4 that died, which go on */
export function keptReturns(isLeft: boolean, log: Pick<Logger, 'info' | 'warn'>): KeptReturns {
  const note = new KeptNote('returns', log);
  return { last: isLeft ? readReturns() : [], write: (keys) => void note.write(JSON.stringify(keys)) };
}

/** Whatever stands there: what is no way back of the plan is not used. */
function readReturns(): readonly string[] {
  try {
    const keys = JSON.parse(readNote('returns') ?? '[]') as unknown;
    return Array.isArray(keys) ? (keys as readonly string[]) : [];
  } catch {
    return [];
  }
}
