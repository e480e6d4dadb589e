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
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
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

/** Where {@link Namespace.ports} begins, and the kernel's own choice (ip_local_port_range), where it ends. */
const PORTS = { first: 10_000, end: 32_768 };

/** One network namespace, and what runs in it. */
export class Namespace {
  readonly lab: Lab;
  /** Its name in the drawing ("client"). */
  readonly label: string;
  /** Its name in /run/netns. */
  readonly name: string;
  #nextPort = PORTS.first;

  constructor(lab: Lab, label: string, name: string) {
    this.lab = lab;
    this.label = label;
    this.name = name;
    host('ip', 'netns', 'add', name);
    forgetState(name);
    this.ip('link', 'set', 'lo', 'up');
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

  /** The processes in it. */
  pids(): number[] {
    return pidsIn(this.name);
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

  constructor() {
    this.#prefix = `lb4-${RUN}-${process.pid === Number(RUN) ? '' : `${process.pid}.`}${++labs}`;
    this.directory = mkdtempSync(join(tmpdir(), `${this.#prefix}-`));
    open.add(this);
    if (open.size === 1) catchExits();
  }

  namespace(label: string): Namespace {
    const namespace = new Namespace(this, label, `${this.#prefix}-${label}`);
    this.namespaces.push(namespace);
    return namespace;
  }

  /** A layer-2 switch: returns a function that makes a port, a cable from it to an interface elsewhere. */
  bridge(label: string): ReturnType<typeof bridgeIn> {
    return bridgeIn(this.namespace(label), 'bridge');
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
    for (const namespace of this.namespaces) removeNamespace(namespace.name);
    this.namespaces.length = 0;
    rmSync(this.directory, { recursive: true, force: true });
    open.delete(this);
  }
}

/** The kernel gives a deleted namespace's inode number to the next one at once, and with it what lb4's scripts noted under it. */
function forgetState(name: string): void {
  rmSync(`/run/lb4/netns-${statSync(`/run/netns/${name}`).ino}`, { recursive: true, force: true });
}

/** A bridge in a namespace, up: returns a function that makes a port of it, a cable to an interface elsewhere. */
export function bridgeIn(
  self: Namespace,
  name: string,
  address?: string,
): (namespace: Namespace, device: string, address?: string) => void {
  self.ip('link', 'add', name, 'type', 'bridge', 'mcast_snooping', '0');
  if (address !== undefined) self.ip('addr', 'add', address, 'dev', name);
  self.ip('link', 'set', name, 'up');
  let ports = 0;
  return (namespace, device, portAddress) => {
    const port = `${name === 'bridge' ? 'port' : name}${++ports}`;
    cable(self, port, undefined, namespace, device, portAddress);
    self.ip('link', 'set', port, 'master', name);
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
  a.ip('link', 'add', aDevice, 'mtu', `${mtu}`, 'type', 'veth', 'peer', 'name', bDevice, 'mtu', `${mtu}`, 'netns', b.name);
  for (const [namespace, device, address] of [
    [a, aDevice, aAddress],
    [b, bDevice, bAddress],
  ] as const) {
    if (address !== undefined) namespace.ip('addr', 'add', address, 'dev', device);
    namespace.ip('link', 'set', device, 'up');
  }
}

function pidsIn(name: string): number[] {
  return host('ip', 'netns', 'pids', name).split('\n').filter(Boolean).map(Number);
}

/** Ends whatever still runs in a namespace, by pid, and deletes it. */
function removeNamespace(name: string): void {
  if (!existsSync(`/run/netns/${name}`)) return;
  forgetState(name);
  for (const pid of pidsIn(name)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended by itself in between.
    }
  }
  try {
    host('ip', 'netns', 'del', name);
  } catch (error) {
    // Two may tidy up at once: the program itself, and vitest's teardown after a test that ran out of time.
    if (existsSync(`/run/netns/${name}`)) throw error;
  }
}

/** Removes the namespaces and directories of runs that are over (or of `run`, over or not). Returns what it found. */
export function sweep(run?: string): string[] {
  const names = [...list('/run/netns'), ...list(tmpdir())].filter((name) => {
    const owner = /^lb4-(\d+)-/.exec(name)?.[1];
    return owner !== undefined && (owner === run || !existsSync(`/proc/${owner}`));
  });
  for (const name of names) {
    removeNamespace(name);
    rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
  return names;
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
