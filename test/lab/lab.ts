/**
 * A laboratory: network namespaces, cables between them, programs inside them; everything is gone when it is disposed of,
 * however the test ended.
 *
 *     await using lab = new Lab();
 *     const a = lab.namespace('a'), b = lab.namespace('b');
 *     cable(a, 'eth0', '10.0.0.1/24', b, 'eth0', '10.0.0.2/24');
 *     await a.run('ping', '-c1', '10.0.0.2');
 *
 * Namespaces are named lb4-RUN-N-NAME, RUN being the pid of the program (of vitest: of its main process) that owns them, so
 * that `sweep` can tell what a killed run left.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { host, inNamespace, Running, type RunResult, run } from './processes.ts';

/** The checkout, found upwards from test/lab and from dist/test/lab alike. */
export const ROOT = findRoot(dirname(fileURLToPath(import.meta.url)));

function findRoot(from: string): string {
  return existsSync(join(from, 'package-lock.json')) ? from : findRoot(dirname(from));
}

const RUN = process.env['LB4_LAB_RUN'] ?? String(process.pid);
const open = new Set<Lab>();
let labs = 0;

/** So long a process may take to die that was killed: a limit against hanging. */
const DEATH_MS = 5_000;

/** Where {@link Namespace.ports} begins, and the kernel's own choice (ip_local_port_range), where it ends. */
const PORTS = { first: 10_000, end: 32_768 };

/** One network namespace, and what runs in it. */
export class Namespace {
  readonly lab: Lab;
  /** Its name in the drawing ("client"). */
  readonly label: string;
  readonly #name: string;
  readonly #assistants = new Set<number>();
  #nextPort = PORTS.first;

  constructor(lab: Lab, label: string, name: string) {
    this.lab = lab;
    this.label = label;
    this.#name = name;
    this.later('link set lo up');
  }

  /** Its name in /run/netns, where it is by now, with all that was to be done in the lab. */
  get name(): string {
    this.lab.settle();
    return this.#name;
  }

  /** A line for `ip` in this namespace, to be run with others before anything else happens in the lab; `ip` makes links first. */
  later(line: string): void {
    this.lab.later(this.#name, line);
  }

  /** The same for a veth pair: one end here, one in `other`. */
  pair(device: string, other: Namespace, otherDevice: string, mtu: number): void {
    this.later(`link add ${device} mtu ${mtu} type veth peer name ${otherDevice} mtu ${mtu} netns ${other.#name}`);
  }

  /** `ip` in this namespace, at once. Throws when it fails. */
  ip(...args: string[]): string {
    return host('ip', '-n', this.name, ...args);
  }

  /** A short command in this namespace, at once. Throws when it fails. */
  sh(...command: string[]): string {
    return host(...inNamespace(this.name, command));
  }

  sysctl(key: string, value: string): void {
    this.sh('sysctl', '-qw', `${key}=${value}`);
  }

  /** Runs a command to its end; a failure is in the answer's code. */
  run(...command: string[]): Promise<RunResult> {
    return run(inNamespace(this.name, command));
  }

  /** The same for what lasts: it may take so many milliseconds. */
  runFor(timeout: number, ...command: string[]): Promise<RunResult> {
    return run(inNamespace(this.name, command), { timeout });
  }

  /** The same for curl, whose transfers are written as in its configuration files (curl(1), `--config`). */
  curl(transfers: string): Promise<RunResult> {
    return run(inNamespace(this.name, ['curl', '--fail-early', '--config', '-']), { input: transfers });
  }

  /** Starts a program that ends with the lab at the latest. */
  start(command: readonly string[], options: { cwd?: string; env?: Record<string, string> } = {}): Running {
    const running = new Running(inNamespace(this.name, command), options);
    this.lab.own(running);
    return running;
  }

  /** Starts one of the lab's own programs (test/lab/NAME.ts, as built). */
  program(name: string, ...args: string[]): Running {
    return this.start([process.execPath, join(ROOT, 'dist/test/lab', `${name}.js`), ...args]);
  }

  /**
   * The first of `count` local ports in a row that nothing here has had before: the kernel chooses anew at every connection, and a port
   * that comes again within TIME_WAIT reopens its old path, to its old server, in the packet modes.
   */
  ports(count: number): number {
    if (this.#nextPort + count > PORTS.end) throw new RangeError(`no ${count} fresh ports are left in ${this.label}`);
    this.#nextPort += count;
    return this.#nextPort - count;
  }

  /** The same for what is none of the programs in it ({@link pids}). */
  assistant(command: readonly string[]): Running {
    const running = this.start(command);
    this.#assistants.add(running.pid);
    return running;
  }

  /** The processes in it. */
  pids(): number[] {
    return pidsIn([this.name]).filter((pid) => !this.#assistants.has(pid));
  }

  /** Payload bytes that its kernel has sent a second time, at most: segments so far, times the largest. */
  retransmitted(): number {
    return Number(/TcpRetransSegs\s+(\d+)/.exec(this.sh('nstat', '-asz', 'TcpRetransSegs'))?.[1]) * 1460;
  }

  /** The MAC address of one of its interfaces. */
  mac(device: string): string {
    return /link\/ether (\S+)/.exec(this.ip('link', 'show', device))?.[1] ?? '';
  }

  /** Switches an interface's offloads (segmentation, receive aggregation, checksums) on or off. */
  offloads(device: string, state: 'on' | 'off'): void {
    this.sh('ethtool', '-K', device, 'tso', state, 'gso', state, 'gro', state, 'tx', state, 'rx', state, 'sg', state);
  }

  /**
   * Lets one CPU receive all that arrives by an interface (RPS, Documentation/networking/scaling.rst), so that it stays in
   * order, as in one receive queue of a NIC. A veth leaves a frame to the CPU that sent it: where two send for one
   * connection, the kernel delivers its segments out of order now and then.
   */
  keepOrder(device: string): void {
    // A sysfs of its own: /sys shows the network namespace in which it was mounted.
    const write = `mount -t sysfs sysfs /sys && echo 1 >/sys/class/net/${device}/queues/rx-0/rps_cpus`;
    this.sh('unshare', '--mount', 'sh', '-c', write);
  }
}

export class Lab {
  /** A directory for configurations and captures. */
  readonly directory: string;
  readonly namespaces: Namespace[] = [];
  readonly #prefix: string;
  readonly #running = new Set<Running>();
  /** Names of all its namespaces. */
  readonly #names: string[] = [];
  /** How many of them have been made. */
  #made = 0;
  /** What is still to be done: links to make, and the rest, by the name of the namespace. */
  readonly #links = new Map<string, string[]>();
  readonly #lines = new Map<string, string[]>();

  constructor() {
    this.#prefix = `lb4-${RUN}-${process.pid === Number(RUN) ? '' : `${process.pid}.`}${++labs}`;
    this.directory = mkdtempSync(join(tmpdir(), `${this.#prefix}-`));
    open.add(this);
    if (open.size === 1) catchExits();
  }

  namespace(label: string): Namespace {
    const name = `${this.#prefix}-${label}`;
    this.#names.push(name);
    const namespace = new Namespace(this, label, name);
    this.namespaces.push(namespace);
    return namespace;
  }

  /** For {@link Namespace.later}. */
  later(name: string, line: string): void {
    const queue = line.startsWith('link add ') ? this.#links : this.#lines;
    queue.set(name, [...(queue.get(name) ?? []), line]);
  }

  /**
   * Makes the namespaces and does what is still to be done in them. Throws where `ip` fails. All together and not one by one, since
   * starting a program is what takes time: a laboratory of six namespaces would start fifty.
   */
  settle(): void {
    const fresh = this.#names.slice(this.#made);
    if (fresh.length === 0 && this.#links.size === 0 && this.#lines.size === 0) return;
    this.#made = this.#names.length;
    batch(
      [],
      fresh.map((name) => `netns add ${name}`),
    );
    for (const name of fresh) forgetState(name);
    for (const queue of [this.#links, this.#lines]) {
      const all = [...queue];
      queue.clear();
      for (const [name, lines] of all) batch(['-n', name], lines);
    }
  }

  /** A layer-2 switch: returns a function that makes a port, a cable from it to an interface elsewhere. */
  bridge(label: string): ReturnType<typeof bridgeIn> {
    return bridgeIn(this.namespace(label), 'bridge');
  }

  /** Every cable's offloads: with them off, each frame on each wire is an ordinary one with whole checksums. */
  setOffloads(state: 'on' | 'off'): void {
    for (const [namespace, device] of this.#cables()) namespace.offloads(device, state);
  }

  /**
   * Cables as between NICs, for XDP: whole checksums, no super-packets; and every end takes what a driver redirects to it, which a veth does
   * only with GRO (or XDP) on.
   */
  likeHardware(): void {
    this.setOffloads('off');
    for (const [namespace, device] of this.#cables()) namespace.sh('ethtool', '-K', device, 'gro', 'on');
  }

  /** The ends of all cables. */
  #cables(): (readonly [Namespace, string])[] {
    const names = (namespace: Namespace) => namespace.ip('-o', 'link', 'show', 'type', 'veth').matchAll(/^\d+: ([^@:]+)/gm);
    return this.namespaces.flatMap((namespace) => [...names(namespace)].map(([, device]) => [namespace, device] as const));
  }

  own(running: Running): void {
    this.#running.add(running);
    void running.exited.then(() => this.#running.delete(running));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const running of this.#running) running.signal('SIGKILL');
    await Promise.all([...this.#running].map((running) => running.exited));
    this.#remove();
  }

  /** The same, without waiting: for `process.on('exit')`. */
  disposeNow(): void {
    for (const running of this.#running) running.signal('SIGKILL');
    this.#remove();
  }

  #remove(): void {
    removeNamespaces(this.#names);
    this.namespaces.length = 0;
    removeDirectory(this.directory);
    open.delete(this);
  }
}

/** The kernel gives a deleted namespace's inode number to the next one at once, and with it what lb4's scripts noted under it. */
function forgetState(name: string): void {
  const ino = inodeOf(name);
  if (ino === undefined) return;
  const directories = [`/run/lb4/netns-${ino}`, `/run/lb4/kept-${ino}`, `/dev/shm/lb4/kept-${ino}`, `/sys/fs/bpf/lb4-${ino}`];
  for (const path of [...directories, gueCountersOf(ino)]) rmSync(path, { recursive: true, force: true });
}

/** Undefined where it is no more: two may tidy up at once, the program itself and vitest's teardown. */
function inodeOf(name: string): number | undefined {
  return statSync(`/run/netns/${name}`, { throwIfNoEntry: false })?.ino;
}

/** Where tc pins the counters of the program that unwraps GUE. It outlives the namespace: nobody but the script's `remove` takes it away. */
export function gueCounters(name: string): string {
  return gueCountersOf(statSync(`/run/netns/${name}`).ino);
}

function gueCountersOf(ino: number): string {
  return `/sys/fs/bpf/tc/globals/lb4_gue_${ino.toString(16).padStart(8, '0')}`;
}

/** A bridge in a namespace, up: returns a function that makes a port of it, a cable to an interface elsewhere. */
export function bridgeIn(
  self: Namespace,
  name: string,
  address?: string,
): (namespace: Namespace, device: string, address?: string) => void {
  self.later(`link add ${name} type bridge mcast_snooping 0`);
  if (address !== undefined) self.later(`addr add ${address} dev ${name}`);
  self.later(`link set ${name} up`);
  let ports = 0;
  return (namespace, device, portAddress) => {
    const port = `${name === 'bridge' ? 'port' : name}${++ports}`;
    cable(self, port, undefined, namespace, device, portAddress);
    self.later(`link set ${port} master ${name}`);
  };
}

/** A veth pair between two namespaces, both ends up. The address is written with its prefix length. */
export function cable(
  a: Namespace,
  aDevice: string,
  aAddress: string | undefined,
  b: Namespace,
  bDevice: string,
  bAddress: string | undefined,
  mtu = 1500,
): void {
  a.pair(aDevice, b, bDevice, mtu);
  for (const [namespace, device, address] of [
    [a, aDevice, aAddress],
    [b, bDevice, bAddress],
  ] as const) {
    if (address !== undefined) namespace.later(`addr add ${address} dev ${device}`);
    namespace.later(`link set ${device} up`);
  }
}

/** Many lines for one `ip` (ip(8), -batch). Throws where one fails. */
function batch(options: readonly string[], lines: readonly string[]): void {
  if (lines.length === 0) return;
  try {
    execFileSync('ip', [...options, '-batch', '-'], { input: lines.join('\n'), encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] });
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    throw new Error(`ip ${options.join(' ')}: ${stderr?.trim() ?? String(error)}\n${lines.join('\n')}`, { cause: error });
  }
}

/** The processes in these namespaces. */
function pidsIn(names: readonly string[]): number[] {
  const inodes = new Set(names.map(inodeOf));
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => {
      try {
        return inodes.has(statSync(`/proc/${pid}/ns/net`).ino);
      } catch {
        return false; // It ended in between.
      }
    });
}

/** Ends whatever still runs in these namespaces, by pid; it may have started something meanwhile. */
function endAll(names: readonly string[]): void {
  for (const until = performance.now() + DEATH_MS; performance.now() < until; ) {
    const pids = pidsIn(names);
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended by itself in between.
      }
    }
  }
}

/** The same, and deletes those that are there. */
function removeNamespaces(all: readonly string[]): void {
  const isThere = (name: string) => existsSync(`/run/netns/${name}`);
  const names = all.filter(isThere);
  endAll(names);
  // When nobody is there any more who might note something.
  for (const name of names) forgetState(name);
  try {
    batch(
      ['-force'],
      names.map((name) => `netns del ${name}`),
    );
  } catch (error) {
    // As above, after a test that ran out of time.
    if (names.some(isThere)) throw error;
  }
}

/** Removes the namespaces and directories of runs that are over (or of `run`, over or not). Returns what it found. */
export function sweep(run?: string): string[] {
  const names = [...list('/run/netns'), ...list(tmpdir())].filter((name) => {
    const owner = /^lb4-(\d+)-/.exec(name)?.[1];
    return owner !== undefined && (owner === run || !existsSync(`/proc/${owner}`));
  });
  removeNamespaces(names);
  for (const name of names) removeDirectory(join(tmpdir(), name));
  return names;
}

/** With what a test has mounted in it, which else nobody could remove: every later run would fail of it. */
function removeDirectory(directory: string): void {
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '');
  for (const mount of mounts.filter((path) => path.startsWith(`${directory}/`)).toReversed()) host('umount', mount);
  rmSync(directory, { recursive: true, force: true });
}

function list(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

let caught = false;

/** On Ctrl-C and on any other end of this process the labs go too. */
function catchExits(): void {
  if (caught) return;
  caught = true;
  process.on('exit', () => {
    for (const lab of open) lab.disposeNow();
  });
  for (const [signal, number] of [
    ['SIGINT', 2],
    ['SIGTERM', 15],
    ['SIGHUP', 1],
  ] as const) {
    process.on(signal, () => process.exit(128 + number));
  }
}
