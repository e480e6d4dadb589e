/**
 * What `make package` has made, installed as its users do where nothing else is installed: no checkout, no compiler, and no script of the
 * package is run. The lb4 that is installed serves in every mode.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { answeredBy } from '../lab/answers.ts';
import { configuration, LB4, startBalancer, writeConfiguration } from '../lab/balancer.ts';
import { VIP as DSR_VIP, DsrTopology } from '../lab/dsr-topology.ts';
import { holdConnections, othersLiveOn } from '../lab/hold.ts';
import { cable, Lab, type Namespace, ROOT } from '../lab/lab.ts';
import { host, Running } from '../lab/processes.ts';
import { removeGroup, whyNoSystemd } from '../lab/systemd.ts';
import { ECHO, Topology, VIP } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { PATIENCE, waitUntil, within } from '../lab/wait.ts';

/** What the lab runs as lb4 (test/lab/balancer.ts reads the variable once): a file that each installation writes. */
const INSTALLED = vi.hoisted(() => (process.env['LB4_BIN'] = `${process.cwd()}/build/lb4-installed-${process.pid}`));

const MINUTES = 60_000;
/** packages.sh: this host cannot have such a root. */
const LACKING = 75;
const MEGABYTE = 1_000_000;

/** An installation by packages.sh, until its end. */
class Installation {
  readonly #running: Running;
  readonly #root: string;

  private constructor(running: Running, root: string) {
    this.#running = running;
    this.#root = root;
  }

  /** Undefined where this host cannot have a root for it. The lab's lb4 is this one from now on. */
  static async make(kind: string): Promise<Installation | undefined> {
    const running = new Running(['setpriv', '--pdeathsig', 'KILL', 'unshare', '--mount', 'sh', join(ROOT, 'test/bare/packages.sh'), kind]);
    const line = await running.line(/^installed in /, 29 * MINUTES).catch((error: unknown) => {
      if (running.exit?.code === LACKING) return undefined;
      throw error;
    });
    if (line === undefined) process.stdout.write(`packages: ${running.lines.at(-1)}: not tried\n`);
    const made = line === undefined ? undefined : new Installation(running, line.replace('installed in ', ''));
    if (made !== undefined) writeFileSync(INSTALLED, `#!/bin/sh\nexec ${made.#inside().join(' ')} lb4 "$@"\n`, { mode: 0o755 });
    return made;
  }

  #inside(): string[] {
    const path = 'PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin';
    return ['nsenter', `--mount=/proc/${this.#running.pid}/ns/mnt`, 'chroot', this.#root, 'env', '-i', path, 'HOME=/root'];
  }

  /** A command there, to its end. */
  sh(command: string): string {
    return host(...this.#inside(), 'sh', '-c', command).trim();
  }

  /** Boots the systemd that is installed there, and waits until it answers. */
  async boot(namespace: Namespace): Promise<Machine> {
    const group = `lb4-boot-${process.pid}`;
    const script = ['sh', join(ROOT, 'test/bare/boot.sh'), this.#root, group, ...controlGroups()];
    const running = namespace.start(['nsenter', `--mount=/proc/${this.#running.pid}/ns/mnt`, 'setpriv', '--pdeathsig', 'KILL', ...script]);
    const machine = new Machine(running, this.#root, group);
    await waitUntil(() => machine.systemctl('is-system-running', '--wait').includes('running'), { what: 'systemd to run', every: 100 });
    return machine;
  }

  async end(): Promise<void> {
    await this.#running.stop('SIGKILL');
  }
}

/** All that an installation may change on a host; what useradd keeps of files it changes does not count. */
const HOST =
  "cat /etc/passwd /etc/group; find /etc /usr /var/lib /var/log -path /var/lib/systemd -prune -o -path /var/log/journal -prune -o ! -name '*-' ! -name .pwd.lock -print | sort";

/** Where hierarchies of control groups are mounted. Not cpuset's old one: a group there has no processor at first. */
function controlGroups(): string[] {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  return mounts.filter((line) => / cgroup2? /.test(line) && !/[ ,]cpuset[ ,]/.test(line)).map((line) => line.split(' ')[1]);
}

/** A booted {@link Installation}, until it is disposed of. */
class Machine {
  readonly #running: Running;
  readonly #root: string;
  readonly #group: string;

  constructor(running: Running, root: string, group: string) {
    this.#running = running;
    this.#root = root;
    this.#group = group;
  }

  /** What a command in it prints, and how it ends. */
  run(...command: string[]): string {
    if (this.#running.exit !== undefined) throw new Error(this.#running.lines.join('\n'));
    const [pid = ''] = readFileSync(`/proc/${this.#running.pid}/task/${this.#running.pid}/children`, 'utf8').split(' ');
    const inside = ['--target', pid, '--mount', '--pid', '--net', '--', 'chroot', this.#root, ...command];
    const { status, stdout, stderr } = spawnSync('nsenter', inside, { encoding: 'utf8' });
    return `${stdout}${stderr}${status}`;
  }

  sh(command: string): string {
    return this.run('sh', '-c', command);
  }

  systemctl(...args: string[]): string {
    return this.run('systemctl', ...args);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#running.stop('SIGKILL');
    for (const hierarchy of controlGroups()) removeGroup(join(hierarchy, this.#group));
  }
}

let installed: Installation | undefined;
afterAll(() => rmSync(INSTALLED, { force: true }));

describe.each(['npm', 'deb'])('%s', (kind) => {
  beforeAll(async () => {
    expect(LB4).toBe(INSTALLED);
    installed = await Installation.make(kind);
  });
  afterAll(() => installed?.end());

  test('is one package of at most 5 MB, and brings nothing to compile with', ({ skip }) => {
    if (installed === undefined) return skip();
    const directory = installed.sh('dirname $(dirname $(readlink -f $(command -v lb4)))');
    expect(installed.sh(`find ${directory} -name node_modules`)).toBe('');
    expect(Number(installed.sh(`du -sb ${directory}`).split('\t')[0])).toBeLessThan(5 * MEGABYTE);
    expect(installed.sh('for tool in cc c++ g++ clang cmake git; do command -v $tool; done; true')).toBe('');
    expect(installed.sh(`lb4 --version`)).toMatch(/^\d+\.\d+\.\d+$/);
    expect(installed.sh(`test -s ${directory}/THIRD-PARTY.md || grep -c 'Third parties' /usr/share/doc/lb4/copyright`)).toMatch(/^1?$/);
  });

  test.runIf(kind === 'deb')('has a file for the administrator, manual page, completion and a unit, and starts nothing', ({ skip }) => {
    if (installed === undefined) return skip();
    expect(installed.sh("dpkg-query -W -f '${Conffiles}' lb4 | cut -d ' ' -f 2 | sort")).toBe('/etc/default/lb4\n/etc/lb4/lb4.toml');
    expect(installed.sh('lb4 check /etc/lb4/lb4.toml')).toContain('ok');
    expect(installed.sh('dpkg --verify lb4')).toBe('');
    expect(installed.sh('bash -c ". /usr/share/bash-completion/completions/lb4; complete -p lb4"')).toMatch(/lb4$/);
    const unit = installed.sh('cat /usr/lib/systemd/system/lb4.service');
    expect(installed.sh(`test -x ${/ExecStart=(\S+)/.exec(unit)?.[1]} && echo yes`)).toBe('yes');
    expect(installed.sh('find /etc/systemd -name "lb4*"')).toBe('');
  });

  test.each(['proxy', '--passthrough'])('%s serves', async (mode) => {
    if (installed === undefined) return;
    await using lab = new Topology({ servers: 2 });
    await lab.startBackends();
    const balancer = await startBalancer(lab.balancer, lab.settings(), { args: [mode] });
    await answeredBy(lab.client, VIP, 'server1', 'server2');
    expect(await balancer.stop()).toEqual({ code: 0, signal: null });
    expect(traces(lab.balancer)).toEqual(NOTHING);
  });

  test.runIf(kind === 'deb' && whyNoSystemd() === undefined)('its unit serves, not as root; a restart ends no connection', async () => {
    if (installed === undefined) return;
    await using lab = new Topology({ servers: 2 });
    await lab.startBackends();
    installed.sh(`cat >/etc/lb4/lb4.toml <<'END'\n${configuration(lab.settings())}\nEND\necho LB4_OPTIONS=--passthrough >/etc/default/lb4`);
    await using machine = await installed.boot(lab.balancer);
    expect(machine.systemctl('enable', '--now', '--quiet', 'lb4')).toBe('0');
    await answeredBy(lab.client, VIP, 'server1', 'server2');
    expect(machine.run('sh', '-c', 'stat -c %U /proc/$(systemctl show --property=MainPID --value lb4)')).toBe('lb4\n0');
    // Of ten times what systemd-analyze prints.
    expect(machine.run('systemd-analyze', 'security', '--threshold=30', '--no-pager', 'lb4')).toMatch(/\n0$|[^\d]0$/);

    const hold = await holdConnections(lab.client, 10, `${VIP}:${ECHO}`);
    for (const verb of ['restart', 'reload']) expect(machine.systemctl(verb, 'lb4')).toBe('0');
    expect(await othersLiveOn(hold)).toEqual([]);
    hold.end();
    await within(hold.exited, 2 * PATIENCE, 'the end of the connections');
    expect(machine.systemctl('stop', 'lb4')).toBe('0');
    expect(machine.systemctl('show', '--property=Result', '--value', 'lb4')).toBe('success\n0');
    expect(machine.run('journalctl', '--unit=lb4', '--output=cat')).toContain('"msg":"handed over"');
    const { rules, reserved } = traces(lab.balancer);
    expect({ rules, reserved }).toEqual({ rules: [], reserved: '' });
  });

  test.runIf(kind === 'npm' && whyNoSystemd() === undefined)(
    'lb4 install makes it a service; one that hangs is killed and goes on',
    async () => {
      if (installed === undefined) return;
      await using lab = new Topology({ servers: 2 });
      await lab.startBackends();
      await using machine = await installed.boot(lab.balancer);
      const before = machine.sh(HOST);
      const dry = machine.sh('lb4 install --dry-run');
      expect(dry).toContain('would write /etc/systemd/system/lb4.service\n');
      expect(machine.sh(HOST)).toBe(before);
      expect(`would ${machine.sh('lb4 install').replaceAll('\n', '\nwould ')}`).toContain(dry.replace(/0$/, ''));

      const dropIn = '/etc/systemd/system/lb4.service.d';
      machine.sh(`cat >/etc/lb4/lb4.toml <<'END'\n${configuration(lab.settings())}\nEND\necho LB4_OPTIONS=--passthrough >/etc/default/lb4`);
      machine.sh(`mkdir ${dropIn}; printf '[Service]\\nWatchdogSec=10\\n' >${dropIn}/watchdog.conf; systemctl daemon-reload`);
      expect(machine.sh('systemctl enable --now --quiet lb4')).toBe('0');
      await answeredBy(lab.client, VIP, 'server1', 'server2');
      expect(machine.sh('systemd-analyze security --threshold=30 --no-pager lb4')).toMatch(/\n0$|[^\d]0$/);

      const hold = await holdConnections(lab.client, 10, `${VIP}:${ECHO}`);
      const shown = (property: string) => machine.sh(`systemctl show --property=${property} --value lb4`);
      expect(machine.sh('main=$(systemctl show --property=MainPID --value lb4); kill -STOP $(cat /proc/$main/task/$main/children)')).toBe(
        '0',
      );
      await waitUntil(() => shown('NRestarts') !== '0\n0' && shown('ActiveState') === 'active\n0', {
        what: 'the unit to start again',
        every: 200,
      });
      expect(machine.sh('journalctl --unit=lb4 --output=cat')).toMatch(/Watchdog timeout[^]*the connections of an lb4 that died go on/);
      expect(await othersLiveOn(hold)).toEqual([]);
      hold.end();
      await within(hold.exited, 2 * PATIENCE, 'the end of the connections');

      const said = machine.sh('lb4 uninstall');
      for (const path of ['/etc/lb4/lb4.toml', '/etc/default/lb4', dropIn]) expect(said).toContain(`leave ${path} as it is`);
      expect(said).toMatch(/\n0$/);
      expect(machine.sh('ls -d /run/lb4')).toMatch(/2$/);
      machine.sh(`rm -r /etc/lb4 /etc/default/lb4 ${dropIn}`);
      expect(machine.sh(HOST)).toBe(before);
      const { rules, reserved } = traces(lab.balancer);
      expect({ rules, reserved }).toEqual({ rules: [], reserved: '' });
    },
  );

  test('--dsr serves, with the scripts that it prints for servers', async () => {
    if (installed === undefined) return;
    await using lab = new DsrTopology();
    await lab.startServers();
    const settings = lab.settings('nat');
    lab.rules(settings, 'install');
    const balancer = await lab.serve(settings);
    await answeredBy(lab.client, DSR_VIP, 'server1', 'server2');
    expect(await balancer.stop()).toEqual({ code: 0, signal: null });
    expect(traces(lab.balancer)).toEqual(NOTHING);
  });

  test('--inline serves', async () => {
    if (installed === undefined) return;
    await using lab = new Lab();
    const [client, box, server] = ['client', 'box', 'server'].map((name) => lab.namespace(name));
    cable(client, 'eth0', '10.71.0.101/24', box, 'eth0', undefined);
    cable(server, 'eth0', '10.71.0.11/24', box, 'eth1', undefined);
    client.later('route add default via 10.71.0.11');
    await server.program('backend', 'server1', 'http=80').line(/^listening/);
    const file = writeConfiguration(
      box,
      `[inline]\nfrontends = ["eth0"]\nbackend = "eth1"
[frontends.web]\nlisten_addr = "10.0.0.1:80"\nbackend = "web"
[backends.web]\nhealth_check = "none"\n[backends.web.servers.a]\naddr = "10.71.0.11:80"
[passthrough]\nring_slots = 256\nworkers = 1\n`,
    );
    const running = box.start([LB4, '--inline', `--config=${file}`]);
    await running.line(/"msg":"ready"/);
    await answeredBy(client, '10.0.0.1', 'server1');
    expect(await running.stop()).toEqual({ code: 0, signal: null });
  });
});
