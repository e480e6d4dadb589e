/** What is kept for network namespaces that are gone. */
import { readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
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

/** Whether this is the host's own network namespace, which is never gone: that of the process from which all others come. */
export function isHostNetwork(): boolean {
  if (readlinkSync('/proc/self/ns/pid') !== INITIAL_PIDS) return false;
  try {
    return readlinkSync('/proc/self/ns/net') === readlinkSync('/proc/1/ns/net');
  } catch {
    return false; // it may not be looked at
  }
}

/** The inode numbers of network namespaces that some process is in, or that have a name; undefined where not every process can be seen. */
export function namespaces(): ReadonlySet<string> | undefined {
  if (readlinkSync('/proc/self/ns/pid') !== INITIAL_PIDS) return undefined;
  const links = readdirSync('/proc')
    .filter((name) => /^[0-9]+$/.test(name))
    .map((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/ns/net`);
      } catch {
        return ''; // it has just ended
      }
    });
  const found = `${links.join('\n')}\n${readFileSync('/proc/self/mountinfo', 'utf8')}`.matchAll(/net:\[([0-9]+)\]/g);
  return new Set([...found].map(([, number]) => number));
}
