/**
 * Where the fast path's maps and links are kept for the next lb4: on a bpffs, in a directory a network namespace. What is pinned there
 * goes on without any process; what is unlinked ends with the last one that has it.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readlinkSync, rmdirSync, statfsSync, statSync, unlinkSync } from 'node:fs';
import { native } from './native.ts';

const ROOT = '/sys/fs/bpf';
/** linux/magic.h: BPF_FS_MAGIC. */
const BPF_FS_MAGIC = 0xcafe4a11;
const PREFIX = 'lb4-';
const CLSACT = 'clsact-';

/**
 * Makes the directory of this network namespace, and mounts the bpffs where nobody has (systemd, iproute2 and bpftool do the same). Throws
 * where there can be none, or only one that ends with this process.
 */
export function preparePins(): void {
  if (!isMounted()) {
    // `ip netns exec` makes one.
    if (isMountNamespaceOwn()) throw new Error(`${ROOT} is no bpffs, and what this process mounts would end with its mount namespace`);
    execFileSync('mount', ['-t', 'bpf', 'bpf', ROOT], { stdio: ['ignore', 'ignore', 'pipe'] });
  }
  mkdirSync(directory(), { recursive: true, mode: 0o700 });
}

/** A descriptor of what is pinned under a name; undefined where there is nothing. */
export function openPin(name: string): number | undefined {
  try {
    return native().openPinned(`${directory()}/${name}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Pins a map or link, in place of what has the name. Throws the system's error. */
export function pin(fd: number, name: string): void {
  unpin(name);
  native().pinBpf(fd, `${directory()}/${name}`);
}

/** Nothing there: no error. */
export function unpin(name: string): void {
  try {
    unlinkSync(`${directory()}/${name}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** The names of what is pinned for this network namespace. */
export function pins(): string[] {
  return isMounted() ? namesIn(directory()) : [];
}

/** Leaves nothing pinned of this network namespace's: links end, and with them the programs run no more. */
export function removePins(): void {
  if (isMounted()) removeDirectory(directory());
}

/** Whoever asks has seen that nobody is in these network namespaces any more. */
export function removePinsExcept(inodes: ReadonlySet<string>): void {
  if (!isMounted()) return;
  for (const name of namesIn(ROOT))
    if (name.startsWith(PREFIX) && !inodes.has(name.slice(PREFIX.length))) removeDirectory(`${ROOT}/${name}`);
}

/** Whether this process has another mount namespace than its parent or the first process, as far as it may look. */
function isMountNamespaceOwn(): boolean {
  const own = readlinkSync('/proc/self/ns/mnt');
  return [1, process.ppid].some((pid) => {
    try {
      return readlinkSync(`/proc/${pid}/ns/mnt`) !== own;
    } catch {
      return false;
    }
  });
}

function isMounted(): boolean {
  try {
    return statfsSync(ROOT).type === BPF_FS_MAGIC;
  } catch {
    return false; // a kernel without BPF
  }
}

function directory(): string {
  return `${ROOT}/${PREFIX}${statSync('/proc/self/ns/net').ino}`;
}

function namesIn(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** Under which a program that stands at an interface's clsact qdisc is pinned: it has no link. */
export function clsactName(ifindex: number): string {
  return `${CLSACT}${ifindex}`;
}

/** Takes lb4's program from an interface's clsact qdisc, and the qdisc where nothing else is on it. Nothing there: no error. */
export function leaveClsact(ifindex: number): void {
  native().detachClsact(ifindex);
  unpin(clsactName(ifindex));
  const device = nameOf(ifindex);
  if (device === undefined) return;
  const filters = ['ingress', 'egress'].map((side) => execFileSync('tc', ['filter', 'show', 'dev', device, side], { encoding: 'utf8' }));
  if (filters.join('').trim() === '') execFileSync('tc', ['qdisc', 'del', 'dev', device, 'clsact'], { stdio: 'ignore' });
}

function nameOf(ifindex: number): string | undefined {
  const routes = new (native().RouteSocket)();
  try {
    return routes.interfaces().find(({ index }) => index === ifindex)?.name;
  } finally {
    routes.close();
  }
}

function removeDirectory(path: string): void {
  if (path === directory()) for (const name of namesIn(path)) if (name.startsWith(CLSACT)) leaveClsact(Number(name.slice(CLSACT.length)));
  const names = namesIn(path);
  for (const name of names) unlinkSync(`${path}/${name}`);
  try {
    rmdirSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
