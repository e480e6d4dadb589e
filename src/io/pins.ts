/**
 * Where the fast path's maps and links are kept for the next lb4: on a bpffs, in a directory a network namespace. What is pinned there
 * goes on without any process; what is unlinked ends with the last one that has it.
 */
import { execFileSync } from 'node:child_process';
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  rmdirSync,
  statfsSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { capable } from './capabilities.ts';
import { eachOf } from './each.ts';
import { interfacesNow } from './interfaces.ts';
import { INITIAL_PIDS, isPrivate } from './kept-places.ts';
import { native } from './native.ts';

const ROOT = '/sys/fs/bpf';
/** linux/magic.h: BPF_FS_MAGIC. */
const BPF_FS_MAGIC = 0xcafe4a11;
const PREFIX = 'lb4-';
const CLSACT = 'clsact-';
/** The qdisc is somebody else's. */
const FILTER = 'filter-';
/** The link of a program at an interface. */
const LINK = /^(?:tc|xdp)-[0-9]+$/;
const AT_CLSACT = /^(?:clsact|filter)-([0-9]+)$/;

/** Makes the directory of this network namespace. Throws where there can be none, or only one that ends with this process. */
export function preparePins(): void {
  mountBpffs();
  mkdirSync(directory(), { recursive: true, mode: 0o700 });
}

/** Mounts the bpffs where nobody has (systemd, iproute2 and bpftool do the same). Throws where there can be none, as {@link preparePins} does. */
export function mountBpffs(): void {
  const obstacle = pinsObstacle();
  if (obstacle !== undefined) throw new Error(obstacle);
  if (isMounted()) return;
  execFileSync('mount', ['-t', 'bpf', '-o', 'mode=700,nosuid,nodev,noexec', 'bpf', ROOT], { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** Why there can be none, as far as that can be told without making any; undefined: there can be. */
export function pinsObstacle(): string | undefined {
  if (isMounted()) return permissionObstacle();
  // `ip netns exec` makes a mount namespace, and so does a container.
  const isOwn = isMountNamespaceOwn() || readlinkSync('/proc/self/ns/pid') !== INITIAL_PIDS;
  if (isOwn) return `${ROOT} is no bpffs, and one of this process's own would end with its namespace`;
  return capable('CAP_SYS_ADMIN')
    ? undefined
    : `${ROOT} is no bpffs, and this process may not mount one: as root, mount -t bpf bpf ${ROOT}`;
}

/** Where systemd has mounted it, root alone may enter. */
function permissionObstacle(): string | undefined {
  const own = directory();
  try {
    const there = statSync(own, { throwIfNoEntry: false });
    if (there === undefined) accessSync(ROOT, constants.W_OK | constants.X_OK);
    else if (!isPrivate(there)) return `${own} is another user's`;
    return undefined;
  } catch {
    return `this user may not make ${own}: as root, chmod a+x ${ROOT} && install -d -m 700 -o ${process.geteuid?.() ?? 'USER'} ${own}`;
  }
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

/** Whether the map that is pinned under a name is the one of that id. */
export function isMapPinned(name: 'flows' | 'hops' | 'counts', id: number): boolean {
  const fd = openPin(name);
  if (fd === undefined) return false;
  try {
    return native().mapId(fd) === id;
  } finally {
    closeSync(fd);
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

/** Whether there are any, as far as this user may know. */
export function hasPins(): boolean {
  try {
    return pins().length > 0;
  } catch {
    return false;
  }
}

/** Names of the links among them. */
export function linkPins(): string[] {
  return pins().filter((name) => LINK.test(name));
}

/** Takes away the pin of a link, whose program runs no more, though it may be pinned elsewhere, too. Nothing there: no error. */
export function removeLink(name: string): void {
  try {
    const link = openPin(name);
    if (link !== undefined) detachLink(link);
  } catch {
    // Without a pin it ends all the same, unless it has others: whoever must know looks at the interfaces (strays.ts).
  }
  unpin(name);
}

/** Closes it, too. */
function detachLink(link: number): void {
  try {
    native().detachLink(link);
  } finally {
    closeSync(link);
  }
}

/** Leaves nothing pinned of this network namespace's: links end, and with them the programs run no more. */
export function removePins(): void {
  // What this user may not even look at is none of its own.
  if (isMounted() && existsSync(directory())) removeDirectory(directory());
}

/** The names of the directories of all network namespaces that have had any. */
export function pinDirectories(): string[] {
  if (!isMounted()) return [];
  // Where it was mounted by hand anybody may write there, and links are nobody's pins.
  const entries = readdirSync(ROOT, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory() && entry.name.startsWith(PREFIX)).map(({ name }) => name);
}

/** Whoever asks has seen that nobody is in these network namespaces any more. @param inodes of those where somebody is @param names of directories */
export function removePinsExcept(inodes: ReadonlySet<string>, names: readonly string[]): void {
  eachOf(names, (name) => {
    if (!inodes.has(name.slice(PREFIX.length))) removeDirectory(`${ROOT}/${name}`);
  });
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

/** Marks that a program stands at an interface's clsact qdisc, where it has no link: it is pinned, by a name that tells whose the qdisc is. */
export function pinAtClsact(program: number, ifindex: number, isQdiscOurs: boolean): void {
  if (isQdiscOurs || !standsAtClsact(ifindex)) pin(program, `${isQdiscOurs ? CLSACT : FILTER}${ifindex}`);
}

/** Whether lb4's program stands there, by that mark. */
export function standsAtClsact(ifindex: number): boolean {
  return pins().some((name) => name === `${CLSACT}${ifindex}` || name === `${FILTER}${ifindex}`);
}

/** Whether, by that mark, the qdisc there is lb4's own. */
export function hasOwnClsact(ifindex: number): boolean {
  return pins().includes(`${CLSACT}${ifindex}`);
}

/** Takes lb4's program from an interface's clsact qdisc, and the qdisc if it is lb4's and nothing else is on it. Nothing there: no error. */
export function leaveClsact(ifindex: number): void {
  native().detachClsact(ifindex);
  const isQdiscOurs = hasOwnClsact(ifindex);
  for (const prefix of [CLSACT, FILTER]) unpin(`${prefix}${ifindex}`);
  const device = interfacesNow().find(({ index }) => index === ifindex)?.name;
  if (!isQdiscOurs || device === undefined) return;
  try {
    const filters = ['ingress', 'egress'].map((side) => execFileSync('tc', ['filter', 'show', 'dev', device, side], { encoding: 'utf8' }));
    if (filters.join('').trim() === '') execFileSync('tc', ['qdisc', 'del', 'dev', device, 'clsact'], { stdio: 'ignore' });
  } catch {
    // The qdisc or the interface has just gone; without tc(8) an empty qdisc stays, which does nothing.
  }
}

function removeDirectory(path: string): void {
  const isHere = path === directory();
  // By what is open: whose directory it is may put a link in its place meanwhile.
  const fd = openDirectory(path);
  if (fd === undefined) return;
  try {
    eachOf(readdirSync(`/proc/self/fd/${fd}`), (name) => {
      const index = AT_CLSACT.exec(name)?.[1];
      if (isHere && index !== undefined) leaveClsact(Number(index));
      else if (isHere && LINK.test(name)) removeLink(name);
      else unlinkSync(`/proc/self/fd/${fd}/${name}`);
    });
  } finally {
    closeSync(fd);
  }
  try {
    rmdirSync(path);
  } catch (error) {
    // Root has made it for this user, who may not take it away.
    if (!['ENOENT', 'EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}

/** Undefined: it is not there. Throws the system's error, for a link as well. */
function openDirectory(path: string): number | undefined {
  try {
    return openSync(path, constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
