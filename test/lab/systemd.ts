/**
 * A real systemd in a namespace of the lab: a user manager with one unit, alone in a process namespace and a mount namespace, and in
 * control groups of its own, all of which end with it. Only the unit's own files are seen: no target, no other unit is started.
 */
import { execFileSync } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Namespace } from './lab.ts';
import type { Running, RunResult } from './processes.ts';
import { waitUntil } from './wait.ts';

const SYSTEMD = '/lib/systemd/systemd';

/** Where hierarchies of control groups are mounted that systemd takes: the unified one, and of older ones its own. */
function hierarchies(): string[] {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  const own = mounts.filter((line) => / cgroup2 /.test(line) || /[ ,]name=systemd[ ,]/.test(line));
  return own.map((line) => line.split(' ')[1] ?? '');
}

/** Why there can be none on this host; undefined: there can. */
export function whyNoSystemd(): string | undefined {
  if (!existsSync(SYSTEMD)) return 'systemd is not installed';
  const all = hierarchies();
  if (all.length === 0) return 'no control groups are mounted';
  return all.every(isWritable) ? undefined : 'control groups may not be made here';
}

function isWritable(directory: string): boolean {
  try {
    accessSync(directory, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

export class Systemd {
  readonly #namespace: Namespace;
  readonly #directory: string;
  readonly #groups: readonly string[];
  readonly running: Running;

  private constructor(namespace: Namespace, directory: string, groups: readonly string[], running: Running) {
    this.#namespace = namespace;
    this.#directory = directory;
    this.#groups = groups;
    this.running = running;
  }

  /** Starts a manager whose only unit is lb4.service of this text, and waits until it is active. */
  static async start(namespace: Namespace, unit: string): Promise<Systemd> {
    const directory = join(namespace.lab.directory, 'systemd');
    mkdirSync(join(directory, 'config/systemd/user'), { recursive: true });
    mkdirSync(join(directory, 'run'), { mode: 0o700 });
    writeFileSync(join(directory, 'config/systemd/user/lb4.service'), unit);
    const groups = hierarchies().map((mount) => join(mount, `lb4-systemd-${process.pid}`));
    const script = `set -e
      for group in ${groups.join(' ')}; do mkdir -p "$group"; echo $$ >"$group/cgroup.procs"; done
      exec unshare --pid --mount --fork --kill-child --mount-proc sh -c '
        mount -t tmpfs lb4-systemd /run/systemd && mkdir /run/systemd/system
        env -i PATH="$PATH" HOME=${directory} XDG_RUNTIME_DIR=${directory}/run XDG_CONFIG_HOME=${directory}/config \
          ${SYSTEMD} --user --unit=lb4.service'`;
    const running = namespace.start(['sh', '-c', script]);
    const systemd = new Systemd(namespace, directory, groups, running);
    try {
      await waitUntil(() => existsSync(join(directory, 'run/systemd/private')), { what: 'systemd to run' });
      await systemd.settled('active');
      return systemd;
    } catch (error) {
      await systemd[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** systemctl, to its end. */
  async control(...args: readonly string[]): Promise<RunResult> {
    const { pid } = this.running;
    const [inside = ''] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ');
    const there = ['nsenter', '--target', inside, '--mount', '--pid', '--', 'env', `XDG_RUNTIME_DIR=${this.#directory}/run`];
    return this.#namespace.run(...there, 'systemctl', '--user', ...args);
  }

  /** Waits until the unit is in a state. */
  async settled(state: string): Promise<void> {
    let last: RunResult | undefined;
    const isThere = async () => {
      last = await this.control('show', '--property=ActiveState', '--value', 'lb4');
      return last.stdout.trim() === state;
    };
    await waitUntil(isThere, { what: `lb4.service to be ${state}`, every: 50 }).catch((error: Error) => {
      throw new Error(`${error.message}; systemctl said ${JSON.stringify(last)}, systemd ${this.running.lines.join('\n')}`, {
        cause: error,
      });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // unshare, whose end takes all of it along.
    await this.running.stop('SIGKILL');
    for (const group of this.#groups) removeGroup(group);
  }
}

/** One that is empty but for such, and that nobody is in any more. */
export function removeGroup(group: string): void {
  for (const { name } of readdirSync(group, { withFileTypes: true }).filter((entry) => entry.isDirectory())) removeGroup(join(group, name));
  try {
    rmdirSync(group);
  } catch {
    // A process that was just killed may still be in it.
    execFileSync('sh', ['-c', `for i in $(seq 200); do sleep 0.2; rmdir '${group}' && exit; done`]);
  }
}
