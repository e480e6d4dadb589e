/**
 * What `make package` has made, installed as its users do where nothing else is installed: no checkout, no compiler, and no script of the
 * package is run. The lb4 that is installed serves in every mode.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { answeredBy } from '../lab/answers.ts';
import { LB4, startBalancer, writeConfiguration } from '../lab/balancer.ts';
import { VIP as DSR_VIP, DsrTopology } from '../lab/dsr-topology.ts';
import { cable, Lab, ROOT } from '../lab/lab.ts';
import { host, Running } from '../lab/processes.ts';
import { Topology, VIP } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';

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
    const line = await running.line(/^installed in /, 14 * MINUTES).catch((error: unknown) => {
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

  async end(): Promise<void> {
    await this.#running.stop('SIGKILL');
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
