/** What is kept for network namespaces that are gone. */
import { readdirSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { eachOf } from './each.ts';
import { INITIAL_PIDS, isPrivateDirectory, PREFIX } from './kept-places.ts';
import { pinDirectories, removePinsExcept } from './pins.ts';

/** Takes away what network namespaces left that are gone: nobody else will ever ask for it. Never throws: it is in nobody's way. */
export function removeAbandoned(root: string): void {
  try {
    removeIfAbandoned(root);
  } catch {
    // The next lb4 tries again.
  }
}

function removeIfAbandoned(root: string): void {
  // First: a namespace that begins while this one looks for others is not among them, and what its lb4 keeps by then is not among these.
  const [pinned, kept] = [pinDirectories(), keptDirectories(root)];
  const here = namespaces();
  if (here === undefined) return;
  eachOf([() => removePinsExcept(here, pinned), () => removeKeptExcept(root, here, kept)], (remove) => remove());
}

/** @param here the inode numbers of those that are not */
export function removeKeptExcept(root: string, here: ReadonlySet<string>, names: readonly string[] = keptDirectories(root)): void {
  if (!isPrivateDirectory(`${root}/lb4`)) return;
  for (const name of names) if (!here.has(name.slice(PREFIX.length))) rmSync(`${root}/lb4/${name}`, { recursive: true, force: true });
}

/** Their names. In /dev/shm anybody may have made what they are in, or put a link there that leads elsewhere a moment later. */
function keptDirectories(root: string): string[] {
  if (!isPrivateDirectory(`${root}/lb4`)) return [];
  const entries = readdirSync(`${root}/lb4`, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory() && entry.name.startsWith(PREFIX)).map(({ name }) => name);
}

/**
 * Whether this is the host's own network namespace, which is never gone: that of the process from which all others come.
 */
export function isHostNetwork(): boolean {
  return readlinkSync('/proc/self/ns/pid') === INITIAL_PIDS && networkFile('1') === networkFile('self');
}

/**
 * The inode numbers of network namespaces that some process is in, or that have a name; undefined where some process may be in another one:
 * who may not be looked at (another user's, one with more privileges: often process 1 of a container) must share a namespace with one who may.
 */
export function namespaces(): ReadonlySet<string> | undefined {
  if (readlinkSync('/proc/self/ns/pid') !== INITIAL_PIDS) return undefined;
  /** By their namespace, a process that is in it. */
  const links = new Map<string, string>();
  const hidden: string[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name))) {
    try {
      links.set(readlinkSync(`/proc/${pid}/ns/net`), pid);
    } catch (error) {
      if (!isGone(error)) hidden.push(pid);
    }
  }
  if (hidden.length > 0 && !areIn(hidden, [...links.values()])) return undefined;
  const found = `${[...links.keys()].join('\n')}\n${readFileSync('/proc/self/mountinfo', 'utf8')}`.matchAll(/net:\[([0-9]+)\]/g);
  return new Set([...found].map(([, number]) => number));
}

function isGone(error: unknown): boolean {
  const { code = '' } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ESRCH';
}

/** Whether each of `hidden` is in a network namespace that one of `known` is in. */
function areIn(hidden: readonly string[], known: readonly string[]): boolean {
  const files = new Set(known.map(networkFile));
  return hidden.every((pid) => {
    const file = networkFile(pid);
    return file === undefined || files.has(file);
  });
}

/** A file that each network namespace has its own of, and that asks for no ptrace(2); undefined: the process has ended. */
function networkFile(pid: string): string | undefined {
  try {
    const { dev, ino } = statSync(`/proc/${pid}/net/dev`);
    return `${dev} ${ino}`;
  } catch (error) {
    return isGone(error) ? undefined : `hidden ${pid}`;
  }
}
