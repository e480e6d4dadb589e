/** What the keys of the packet workers demand of each other, and of this host. */
import { MOST_WORKERS } from '../../layout/limits.ts';
import { formatCpus, readCpus } from '../cpus.ts';
import { isPacketMode, type Mode } from '../modes.ts';
import { nodeAt, type TomlNode } from '../read/toml.ts';
import { error, type Finding, show } from './finding.ts';
import { type IsOwn, isHere } from './own.ts';
import { frontendPlaces } from './places.ts';

const TABLE = 'passthrough';
const WORKERS = [TABLE, 'workers'];
const CPUS = [TABLE, 'cpus'];
const FAST_PATH = [TABLE, 'fast_path'];
const CAPACITY = [TABLE, 'connection_tracker_capacity'];

/** The processors that this process may use; undefined where that cannot be told. */
export type UsableCpus = () => readonly number[] | undefined;

/** More workers, or more of the kernel, than the driver has, than processors make, or than there are connections for. */
export function workerFindings(root: TomlNode): Finding[] {
  const cpus = cpusIn(root);
  const node = nodeAt(root, WORKERS);
  const workers = node === undefined ? 0 : node.value;
  if (typeof workers !== 'number' || workers > MOST_WORKERS) return [];
  if (nodeAt(root, [TABLE, 'io'])?.value === 'pcap')
    return [...(workers > 1 && node !== undefined ? [tooManyForPcap(node)] : []), ...hooksForPcap(root)];
  return [...(workers === 0 ? tooManyCpus(cpus) : []), ...emptyShares(root, workers || (cpus?.list.length ?? 0))];
}

/** `auto` says that there is none. */
function hooksForPcap(root: TomlNode): Finding[] {
  const node = nodeAt(root, FAST_PATH);
  if (node?.value !== 'tc' && node?.value !== 'xdp') return [];
  return [error(node, FAST_PATH, `${show(node.value)}: io = "pcap" has no fast path in the kernel; allowed: "off" or "auto"`)];
}

function tooManyForPcap(node: TomlNode): Finding {
  return error(node, WORKERS, `${show(node.value)} is too many: io = "pcap" forwards with one worker; allowed: 0 or 1`);
}

function tooManyCpus(cpus: ReturnType<typeof cpusIn>): Finding[] {
  if (cpus === undefined || cpus.list.length <= MOST_WORKERS) return [];
  const count = `${show(cpus.node.value)} names ${cpus.list.length} processors, and with workers = 0 each has a worker`;
  return [error(cpus.node, CPUS, `${count}; allowed: at most ${MOST_WORKERS}, or workers = 1–${MOST_WORKERS}`)];
}

/** @param workers 0: it is for lb4 to choose, who goes by the connections, too */
function emptyShares(root: TomlNode, workers: number): Finding[] {
  const capacity = nodeAt(root, CAPACITY);
  if (typeof capacity?.value !== 'number' || capacity.value < 1 || capacity.value >= workers) return [];
  return [error(capacity, CAPACITY, `${capacity.value} is less than one for each of ${workers} workers; needed: at least ${workers}`)];
}

/**
 * Processors that are not there, or that this process may not use. Only a start pins workers to them: a running lb4 is warned. Nothing is
 * said of a file that is meant for another host.
 * @param isRunning lb4 runs already
 */
export function cpuFindings(
  root: TomlNode,
  mode: Mode | undefined,
  { isOwn, usableCpus, isRunning }: { isOwn?: IsOwn | undefined; usableCpus?: UsableCpus | undefined; isRunning: boolean },
): Finding[] {
  const cpus = cpusIn(root);
  // Nothing is pinned of io = "pcap".
  const isPinned = mode !== undefined && isPacketMode(mode) && nodeAt(root, [TABLE, 'io'])?.value !== 'pcap';
  if (cpus === undefined || !isPinned || !isHere(frontendPlaces(root), isOwn)) return [];
  const usable = usableCpus?.();
  const strange = usable === undefined ? [] : cpus.list.filter((cpu) => !usable.includes(cpu));
  if (usable === undefined || strange.length === 0) return [];
  const message = `${show(cpus.node.value)}: this process may not use ${formatCpus(strange)}, or there is none; allowed here: ${formatCpus(usable)}`;
  if (!isRunning) return [error(cpus.node, CPUS, message)];
  return [{ ...error(cpus.node, CPUS, `${message}; the next start will be refused`), severity: 'warning' }];
}

function cpusIn(root: TomlNode): { readonly node: TomlNode; readonly list: readonly number[] } | undefined {
  const node = nodeAt(root, CPUS);
  if (typeof node?.value !== 'string') return undefined;
  const read = readCpus(node.value);
  return 'problem' in read ? undefined : { node, list: read.cpus };
}
