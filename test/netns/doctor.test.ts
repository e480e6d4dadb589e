/** `lb4 doctor`: a good host, and one row for everything that can fail; where the mending command can be run, it mends. */
import { realpathSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import type { Finding, Level } from '../../src/doctor/finding.ts';
import { judgeClock } from '../../src/doctor/kernel.ts';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import { configuration, LB4, launch, type Settings, writeConfiguration } from '../lab/balancer.ts';
import { ROOT } from '../lab/lab.ts';
import { PYTHON } from '../lab/processes.ts';
import { HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { waitUntil } from '../lab/wait.ts';

const SERVER = `${serverAddress(0)}:${HTTP}`;
const web = (listen = `${VIP}:${HTTP}`, servers = [SERVER], backend = ''): Settings => ({
  frontends: { web: { listen, servers, backend } },
});

interface Report {
  code: number;
  findings: Finding[];
  stderr: string;
}

async function doctor(lab: Topology, file: string, args: readonly string[] = [], before: readonly string[] = []): Promise<Report> {
  const { code, stdout, stderr } = await lab.balancer.run(...before, LB4, 'doctor', `--config=${file}`, '--json', ...args);
  const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: Finding[] };
  expect(ok).toBe(code === 0);
  return { code, findings, stderr };
}

/** The findings of a level, one line each. */
function lines(findings: readonly Finding[], level: Level): string[] {
  return findings.filter((finding) => finding.level === level).map(({ check, message }) => `${check}: ${message}`);
}

/** The finding whose line matches. */
function find(findings: readonly Finding[], level: Level, pattern: RegExp): Finding {
  const found = findings.find((finding) => finding.level === level && pattern.test(`${finding.check}: ${finding.message}`));
  if (found === undefined) throw new Error(`no ${level} ${pattern} among ${JSON.stringify(findings, undefined, 1)}`);
  return found;
}

/** One server, and a balancer whose rules are installed. */
async function goodHost(settings = web()): Promise<{ lab: Topology; file: string }> {
  const lab = new Topology({ servers: 1 });
  lab.balancer.sysctl('net.ipv4.conf.all.rp_filter', '0');
  const file = writeConfiguration(lab.balancer, configuration(settings));
  const script = join(lab.directory, 'rules.sh');
  writeFileSync(script, rulesOf(lab, file, JSON.stringify(settings)));
  lab.balancer.sh('sh', script, 'install');
  return { lab, file };
}

const scripts = new Map<string, string>();

/** Printed once for the same settings: starting Node.js is what takes time. */
function rulesOf(lab: Topology, file: string, settings: string): string {
  const printed = scripts.get(settings) ?? lab.balancer.sh(LB4, 'rules', `--config=${file}`);
  scripts.set(settings, printed);
  return printed;
}

test('a good host: nothing fails, one line a finding, exit 0; and looking changes nothing', async () => {
  const { lab: host, file } = await goodHost();
  await using lab = host;
  const state = () =>
    lab.balancer.sh('sh', '-c', 'nft list ruleset; cat /proc/sys/net/ipv4/ip_local_reserved_ports /proc/net/ip_tables_names');
  const before = state();
  const { code, stdout, stderr } = await lab.balancer.run(LB4, 'doctor', `--config=${file}`);
  expect({ code, stderr }, stdout).toEqual({ code: 0, stderr: '' });
  expect(stdout.split('\n').every((line) => line === '' || /^(ok|warn) +[\w -]+: ./i.test(line))).toBe(true);
  const { findings } = await doctor(lab, file);
  for (const pattern of [
    /^privileges: CAP_NET_ADMIN, CAP_NET_RAW$/,
    /^AF_PACKET: /,
    /^workers: \d+ packet workers?, of \d+ processors?$/,
    /^memory: \d+ MB for receive rings and \d+ MB for flow tables of \d+ workers?; \d+ MB are available$/,
    /^VIP: 10\.71\.0\.1 is on front$/,
    /^route: server 10\.72\.0\.11 is reached on back$/,
    /^offloads: front: GRO (on|off), LRO off, TSO on, checksums rx on tx on$/,
    /^offloads: back: /,
    /^rp_filter: front: off$/,
    /^firewall: all \d+ rules of lb4 are there$/,
  ])
    find(findings, 'ok', pattern);
  expect(findings.filter(({ check }) => check === 'clock source')).toHaveLength(1);
  expect(state()).toBe(before);
});

test('before the first start nothing is wrong: what lb4 sees to is told, and who hears nothing then', async () => {
  await using lab = new Topology({ servers: 1 });
  const file = writeConfiguration(lab.balancer, configuration(web()));
  await lab.balancer.program('backend', 'hidden', 'http=80').line(/^listening/);
  const { code, findings } = await doctor(lab, file);
  expect(code).toBe(0);
  const mend = '; lb4 sees to it when it starts \\(with --no-rules you do: lb4 rules --apply --passthrough --config=\\S+\\)$';
  find(findings, 'ok', new RegExp(`^firewall: 2 DROP rules are missing, the first -d 10\\.71\\.0\\.1/32 .*${mend}`));
  find(findings, 'ok', new RegExp(`^reserved ports: net\\.ipv4\\.ip_local_reserved_ports lacks 33768-61000${mend}`));
  find(findings, 'warn', /^listener: a program of this host listens at frontend web \(10\.71\.0\.1:80\), too/);
  expect(lines(findings, 'warn').filter((line) => !/^(listener|clock source)/.test(line))).toEqual([]);
});

interface Row {
  readonly name: string;
  readonly settings?: Settings;
  /** Shell commands in the balancer's namespace. */
  readonly spoil?: string;
  readonly args?: readonly string[];
  readonly level?: Level;
  readonly says: RegExp;
  readonly mend: string | RegExp;
  /** False: the mend is not a command for this host, or has words to fill in. */
  readonly mends?: false;
}

/** A veth pair of which one end is up. */
const NO_CARRIER = 'ip link add d0 type veth peer name d1 && ip address add 10.77.0.1/24 dev d0 && ip link set d0 up';

const rows: Row[] = [
  {
    name: "Convey's rule, which drops answers to health checks",
    spoil: 'iptables -t raw -A PREROUTING -p tcp --sport 80 --dport 32768:61000 -j DROP',
    says: /^firewall: too wide: .* drops answers to health checks/,
    mend: 'iptables -t raw -D PREROUTING -p tcp -m tcp --sport 80 --dport 32768:61000 -j DROP',
  },
  {
    name: 'a rule that drops all TCP of the server, by iptables-legacy',
    spoil: 'iptables-legacy -t raw -A PREROUTING -s 10.72.0.0/24 -p tcp -j DROP',
    says: /^firewall: too wide: .*10\.72\.0\.0\/24/,
    mend: 'iptables-legacy -t raw -D PREROUTING -s 10.72.0.0/24 -p tcp -j DROP',
  },
  {
    name: "a DROP of the frontend's port without -d",
    spoil: 'iptables -t raw -A PREROUTING -p tcp --dport 80 -j DROP',
    level: 'warn',
    says: /^firewall: too wide: .* for every address/,
    mend: 'iptables -t raw -D PREROUTING -p tcp -m tcp --dport 80 -j DROP',
  },
  ...[
    ['of iptables', 'iptables -t nat -A POSTROUTING -o back -j MASQUERADE'],
    [
      'of nft',
      'nft add table ip own && nft "add chain ip own post { type nat hook postrouting priority 100; }" && nft add rule ip own post masquerade',
    ],
  ].map(([whose, spoil = '']) => ({
    name: `source NAT ${whose} in DSR mode, which changes what the kernel routes for lb4`,
    settings: web(undefined, [SERVER], 'dsr = "nat"'),
    spoil,
    args: ['--dsr'],
    level: 'warn' as const,
    says: /^NAT: this host has source NAT; in DSR mode it changes what lb4 sends/,
    mend: 'iptables -t nat -I POSTROUTING -p tcp -d 10.72.0.11 --dport 80 -j ACCEPT (and so for each server)',
    mends: false as const,
  })),
  {
    name: 'a jump above the rules to a chain that accepts',
    spoil: 'iptables -t raw -N other && iptables -t raw -A other -j ACCEPT && iptables -t raw -I PREROUTING -p tcp -j other',
    level: 'warn',
    says: /^firewall: raw: -A PREROUTING -p tcp -j other stands above rules of lb4, .*does not follow jumps$/,
    mend: 'iptables-save -t raw',
    mends: false,
  },
  {
    name: 'a FORWARD chain that drops, past which lb4 forwards',
    spoil: 'iptables -P FORWARD DROP',
    level: 'warn',
    says: /^firewall: FORWARD drops packets of others, none of those that lb4 forwards/,
    mend: 'iptables -S FORWARD',
    mends: false,
  },
  {
    name: 'a policy of IPsec, which what lb4 sends goes past',
    spoil: 'ip xfrm policy add src 10.71.0.0/24 dst 203.0.113.0/24 dir out tmpl src 10.71.0.1 dst 203.0.113.1 proto esp mode tunnel',
    level: 'warn',
    says: /^IPsec: this host encrypts what goes from 10\.71\.0\.0\/24 to 203\.0\.113\.0\/24; what lb4 sends goes past that/,
    mend: 'ip xfrm policy',
    mends: false,
  },
  {
    name: 'a VIP that nobody has',
    settings: web('10.99.0.1:80'),
    says: /^VIP: 10\.99\.0\.1 is not an address of this host$/,
    mend: 'ip address add 10.99.0.1/PREFIX dev DEVICE',
    mends: false,
  },
  {
    name: 'a VIP on an interface that is down',
    spoil: 'ip link set front down',
    says: /^VIP: .* front, which is down$/,
    mend: 'ip link set front up',
  },
  {
    name: 'a VIP on an interface that is up, with its other end down',
    settings: web('10.77.0.1:80'),
    spoil: NO_CARRIER,
    level: 'warn',
    says: /^VIP: 10\.77\.0\.1 is on d0, which is up but has no carrier/,
    mend: 'ip -d link show d0',
    mends: false,
  },
  {
    name: 'a server behind an interface without carrier',
    settings: web(undefined, ['10.77.0.5:80']),
    spoil: NO_CARRIER,
    says: /^route: server 10\.77\.0\.5 is reached on d0, which has no carrier/,
    mend: 'ip -d link show d0',
    mends: false,
  },
  {
    name: 'dsr = "l2" with no address but the VIP on the servers\' link',
    settings: web('10.72.0.1:80', [SERVER], 'dsr = "l2"'),
    args: ['--dsr'],
    says: /^check source: backend web-out: this host would check server 10\.72\.0\.11 from 10\.72\.0\.1, a frontend's address/,
    mend: 'ip address add ADDRESS/PREFIX dev back && ip route replace 10.72.0.11 dev back src ADDRESS',
    mends: false,
  },
  {
    name: 'a server without a route',
    settings: web(undefined, ['192.0.2.5:80']),
    says: /^route: there is none to server 192\.0\.2\.5$/,
    mend: 'ip route add 192.0.2.5 via GATEWAY',
    mends: false,
  },
  {
    name: 'a server behind a blackhole route',
    spoil: 'ip route add blackhole 10.72.0.11/32',
    says: /^route: server 10\.72\.0\.11: a blackhole route throws the packets away$/,
    mend: 'ip route get 10.72.0.11',
    mends: false,
  },
  {
    name: "a rule by the frontend's address that leads nowhere",
    spoil: 'ip route add prohibit default table 101 && ip rule add from 10.71.0.1 lookup 101',
    says: /^route: from 10\.71\.0\.1 to server 10\.72\.0\.11: a prohibit route refuses the packets$/,
    mend: 'ip route get 10.72.0.11 from 10.71.0.1; ip rule show',
    mends: false,
  },
  {
    name: 'a rule by source port, which nobody can be asked about beforehand',
    spoil: 'ip rule add ipproto tcp sport 33768-61000 lookup 101',
    level: 'warn',
    says: /^route: rule \d+ \(sport 33768-61000\) is not followed by what lb4 sends/,
    mend: 'ip rule show',
    mends: false,
  },
  {
    name: 'a server that does not answer ARP',
    settings: web(undefined, ['10.72.0.99:80']),
    says: /^route: server 10\.72\.0\.99 is reached on back, but nobody/,
    mend: 'ping -c 1 10.72.0.99; ip neigh show 10.72.0.99',
    mends: false,
  },
  {
    name: 'a server that is this host',
    settings: web(undefined, ['10.72.0.1:8080']),
    args: ['--passthrough'],
    says: /^server: 10\.72\.0\.1:8080 is an address of this host/,
    mend: /^move that server/,
    mends: false,
  },
  {
    name: 'a server behind a gateway, with dsr = "l2"',
    settings: web(undefined, ['10.75.0.5:80'], 'dsr = "l2"'),
    spoil: 'ip route add 10.75.0.0/24 via 10.72.0.11',
    args: ['--dsr'],
    says: /^route: server 10\.75\.0\.5 is reached by 10\.72\.0\.11 on back; dsr = "l2" needs it on the same link$/,
    mend: /^ip address add ADDRESS\/PREFIX dev back$/,
    mends: false,
  },
  {
    name: "somebody's DROP of the frontend in the raw table, on a bridge whose frames pass iptables",
    settings: web('10.73.0.1:80'),
    spoil:
      'ip link add br0 type bridge && ip addr add 10.73.0.1/24 dev br0 && ip link set br0 up && sysctl -qw net.bridge.bridge-nf-call-iptables=1' +
      ' && iptables -t raw -A PREROUTING -d 10.73.0.1 -p tcp --dport 80 -j DROP',
    says: /^firewall: in the way: PREROUTING -d 10\.73\.0\.1\/32 .* drops frames that lb4 needs: frames of br0 pass iptables/,
    mend: 'iptables -t raw -D PREROUTING -d 10.73.0.1/32 -p tcp -m tcp --dport 80 -j DROP',
  },
  {
    name: 'strict reverse path filtering',
    spoil: 'sysctl -qw net.ipv4.conf.back.rp_filter=1',
    level: 'warn',
    says: /^rp_filter: back: strict/,
    mend: 'sysctl -w net/ipv4/conf/back/rp_filter=2',
  },
];

test('source NAT that is no matter: towards another interface, and in passthrough, where nft keeps packets from it', async () => {
  const { lab: host, file } = await goodHost(web(undefined, [SERVER], 'dsr = "nat"'));
  await using lab = host;
  const about = async (...args: string[]) => (await doctor(lab, file, args)).findings.filter(({ check }) => check === 'NAT');
  lab.balancer.sh('iptables', '-t', 'nat', '-A', 'POSTROUTING', '-o', 'front', '-j', 'MASQUERADE');
  expect(await about('--dsr')).toEqual([]);
  lab.balancer.sh('iptables', '-t', 'nat', '-A', 'POSTROUTING', '-j', 'MASQUERADE');
  expect(await about()).toEqual([]);
  expect(await about('--dsr')).toHaveLength(1);
});

test.each(rows)('$name', async ({ settings, spoil = 'true', args, level = 'fail', says, mend, mends = true }) => {
  const { lab: host, file } = await goodHost(settings);
  await using lab = host;
  lab.balancer.sh('sh', '-c', spoil);
  const { code, findings } = await doctor(lab, file, args);
  const found = find(findings, level, says);
  expect(found.mend).toEqual(typeof mend === 'string' ? mend : expect.stringMatching(mend));
  expect(code).toBe(level === 'fail' ? 1 : 0);
  expect(lines(findings, 'fail')).toHaveLength(level === 'fail' ? 1 : 0);
  if (!mends) return;
  lab.balancer.sh('sh', '-c', (found.mend ?? '').replace(/^lb4 /, `${LB4} `));
  // A link that was set up takes the kernel a moment.
  await waitUntil(
    async () => {
      const after = (await doctor(lab, file, args)).findings;
      return !after.some((one) => one.level === level && says.test(`${one.check}: ${one.message}`)) && lines(after, 'fail').length === 0;
    },
    { what: `${found.mend} to mend it`, every: 200 },
  );
});

test.each([
  ['127.0.0.1', web(undefined, ['127.0.0.1:8080', SERVER]), []],
  ['an own address', web(undefined, ['10.72.0.1:8080']), []],
  ['an own address, told', web(undefined, ['10.72.0.1:8080']), ['--proxy']],
  ['every address listened on', web('0.0.0.0:80'), []],
  ['IPv6', web('[::1]:80', ['[::1]:8080', SERVER]), []],
])('a good configuration for proxy mode: %s', async (_, settings, args) => {
  await using lab = new Topology({ servers: 1 });
  const { code, findings } = await doctor(lab, writeConfiguration(lab.balancer, configuration(settings)), args);
  expect({ code, fail: lines(findings, 'fail') }).toEqual({ code: 0, fail: [] });
  // Nothing is said of what it does not need.
  expect(findings.filter(({ check }) => ['AF_PACKET', 'firewall', 'offloads', 'reserved ports'].includes(check))).toEqual([]);
  expect(findings.some(({ check, message }) => check === 'mode' && message.includes('proxy mode'))).toBe(args.length === 0);
});

test('a configuration for proxy mode on a host that cannot serve it', async () => {
  await using lab = new Topology({ servers: 1 });
  const file = writeConfiguration(lab.balancer, configuration(web('10.99.0.1:80', ['127.0.0.1:80', '192.0.2.5:80', '[2001:db8::5]:80'])));
  const { findings } = await doctor(lab, file, [], ['setpriv', '--bounding-set=-net_bind_service', '--inh-caps=-net_bind_service']);
  expect(lines(findings, 'fail')).toEqual([
    'privileges: this process lacks CAP_NET_BIND_SERVICE, which ports below 1024 need: 80',
    'route: there is none to server 2001:db8::5',
    'VIP: 10.99.0.1 is not an address of this host',
    'route: there is none to server 192.0.2.5',
  ]);
});

test('lb4 runs with --no-rules, and the rules are missing', async () => {
  await using lab = new Topology({ servers: 1 });
  const file = writeConfiguration(lab.balancer, configuration(web()));
  const running = launch(lab.balancer, configuration(web()), '--no-rules');
  await running.line(/"msg":"ready"/);
  const { code, findings } = await doctor(lab, file);
  expect(code).toBe(1);
  find(findings, 'fail', /^firewall: 2 DROP rules are missing, .* while lb4 runs, with --no-rules: it does not put them back$/);
  const { mend } = find(findings, 'fail', /^reserved ports: .* while lb4 runs, with --no-rules/);
  lab.balancer.sh('sh', '-c', (mend ?? '').replace(/^lb4 /, `${LB4} `));
  // The running one has its own say, and looks every five seconds.
  const looked = async () => {
    const seen = await doctor(lab, file);
    return seen.code === 0 ? seen : undefined;
  };
  const mended = await waitUntil(looked, { what: 'nothing that fails', every: 500 });
  find(mended.findings, 'warn', /^firewall: all \d+ rules .* are there, but lb4 runs with --no-rules/);
  await running.stop();
});

test.each(['net_raw', 'net_admin'])('without CAP_%s', async (name) => {
  const { lab: host, file } = await goodHost();
  await using lab = host;
  const { code, findings } = await doctor(lab, file, [], ['setpriv', `--bounding-set=-${name}`, `--inh-caps=-${name}`]);
  expect(code).toBe(1);
  find(findings, 'fail', new RegExp(`^privileges: this process lacks CAP_${name.toUpperCase()}$`));
  if (name === 'net_raw') find(findings, 'fail', /^AF_PACKET: .*not permitted/);
});

/** Before lb4's own command: a kernel without bpf(2), and an lb4 without the programs. */
const WITHOUT_BPF = [PYTHON, join(ROOT, 'test/lab/without-bpf.py')];
const WITHOUT_OBJECT = [
  'unshare',
  '--mount',
  'sh',
  '-ec',
  'mount -t tmpfs none "$0"; exec "$@"',
  join(dirname(realpathSync(LB4)), '../native/bpf'),
];

test.skipIf(fastPathObstacle() !== undefined).each([
  { before: WITHOUT_BPF, why: 'Error in bpf_object__probe_loading' },
  { before: WITHOUT_OBJECT, why: 'this lb4 was built without the fast path' },
])('no fast path ($why) fails the file that asks for one, as it does the start', async ({ before, why }) => {
  await using lab = new Topology({ servers: 1 });
  const file = writeConfiguration(lab.balancer, configuration({ ...web(), more: '[passthrough]\nfast_path = "tc"' }));
  const [told, started] = await Promise.all([
    doctor(lab, file, [], before),
    lab.balancer.run(...before, LB4, '--passthrough', `--config=${file}`),
  ]);
  expect([told.code, started.code]).toEqual([1, 77]);
  find(told.findings, 'fail', new RegExp(`^BPF: .*no fast path in the kernel: .*${why}`));
  expect(started.stderr).toMatch(new RegExp(`^lb4: fast_path = "tc": no fast path in the kernel: .*${why}`, 'm'));
});

test('--dsr tells of act_nat', async () => {
  const { lab: host, file } = await goodHost();
  await using lab = host;
  const { findings } = await doctor(lab, file, ['--dsr']);
  expect(findings.filter(({ check }) => check === 'act_nat')).toHaveLength(1);
  expect((await doctor(lab, file)).findings.filter(({ check }) => check === 'act_nat')).toEqual([]);
});

test('without a configuration it looks at the machine; a bad one exits 78, bad usage 2', async () => {
  const { lab: host, file } = await goodHost();
  await using lab = host;
  const alone = await lab.balancer.run('sh', '-c', `cd ${lab.directory} && ${LB4} doctor`);
  expect(alone.code).toBe(0);
  expect(alone.stdout).toContain('warn  configuration: none given');
  expect((await lab.balancer.run(LB4, 'doctor', '--config=/nowhere.toml')).code).toBe(78);
  expect((await lab.balancer.run(LB4, 'doctor', '--passthrough', '--dsr', `--config=${file}`)).code).toBe(2);
  expect((await lab.balancer.run(LB4, 'doctor', '--nonsense')).code).toBe(2);
});

test.each([
  ['tsc', 'tsc kvm-clock', 'ok', undefined],
  ['kvm-clock', 'kvm-clock', 'ok', undefined],
  ['hpet', 'tsc hpet acpi_pm', 'warn', 'echo tsc >/sys/devices/system/clocksource/clocksource0/current_clocksource'],
  ['acpi_pm', 'acpi_pm', 'warn', 'boot with tsc=reliable'],
  [undefined, '', 'warn', 'mount -t sysfs sysfs /sys'],
])('clock source %s of %s: %s', (current, available, level, mend) => {
  expect(judgeClock(current, available)).toMatchObject({ level, ...(mend === undefined ? {} : { mend }) });
});

test('a veth whose frames stay on the CPU that sent them reorders: RPS mends it', async () => {
  const { lab: host, file } = await goodHost();
  await using lab = host;
  // A /sys of this network namespace, which nsenter alone does not give.
  const own = ['unshare', '--mount', 'sh', '-c', 'mount -t sysfs sysfs /sys && exec "$@"', 'sh'];
  const { findings } = await doctor(lab, file, [], own);
  expect(find(findings, 'warn', /^order: back: /).mend).toBe('echo 3 >/sys/class/net/back/queues/rx-0/rps_cpus');
  for (const device of ['back', 'front']) lab.balancer.keepOrder(device);
  const { findings: mended } = await doctor(lab, file, [], own);
  expect(lines(mended, 'ok').filter((line) => line.startsWith('order: '))).toHaveLength(2);
});
