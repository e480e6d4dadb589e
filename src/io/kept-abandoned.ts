/** What is kept for network namespaces that are gone. */
import { readdirSync, readFileSync, readlinkSync, rmSync, type Stats, statSync } from 'node:fs';
import { INITIAL_PIDS, PREFIX } from './kept-places.ts';
import { removePinsExcept } from './pins.ts';

/** Takes away what network namespaces left that are gone: nobody else will ever ask for it. Never throws: it is in nobody's way. */
export function removeAbandoned(root: string): void {
  try {
    removeIfAbandoned(root);
  } catch {
    // The next lb4 tries again.
  }
}

function removeIfAbandoned(root: string): void {
  const here = namespaces();
  if (here === undefined) return;
  removePinsExcept(here);
  const names = readdirSync(`${root}/lb4`, { withFileTypes: true }).filter((entry) => entry.isDirectory() && entry.name.startsWith(PREFIX));
  for (const { name } of names) if (!here.has(name.slice(PREFIX.length))) rmSync(`${root}/lb4/${name}`, { recursive: true, force: true });
}

/**
 * Whether this is the host's own network namespace, which is never gone: that of the process from which all others come. Asked by a file
 * that each namespace has its own of, since who is in which, ptrace(2) would have to be allowed for.
 */
export function isHostNetwork(): boolean {
  if (readlinkSync('/proc/self/ns/pid') !== INITIAL_PIDS) return false;
  try {
    const [first, own] = [1, 'self'].map((pid) => statSync(`/proc/${pid}/net/dev`)) as [Stats, Stats];
    return first.ino === own.ino && first.dev === own.dev;
  } catch {
    return false; // it may not be looked at (hidepid)
  }
}

/** The inode numbers of network namespaces that some process is in, or that have a name; undefined where not every process can be looked at. */
export function namespaces(): ReadonlySet<string> | undefined {
  if (readlinkSync('/proc/self/ns/pid') !== INITIAL_PIDS) return undefined;
  const links: string[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name))) {
    try {
      links.push(readlinkSync(`/proc/${pid}/ns/net`));
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException;
      // Another user's, or one with more privileges.
      if (!['ENOENT', 'ESRCH'].includes(code)) return undefined;
    }
  }
  const found = `${links.join('\n')}\n${readFileSync('/proc/self/mountinfo', 'utf8')}`.matchAll(/net:\[([0-9]+)\]/g);
  return new Set([...found].map(([, number]) => number));
}
