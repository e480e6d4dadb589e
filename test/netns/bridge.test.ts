/** Hosts whose bridges show their frames to iptables (br_netfilter), as Docker, Kubernetes and libvirt leave them: every mode works. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Balancer, configuration, LB4, startBalancer, writeConfiguration } from '../lab/balancer.ts';
import { VIP as DSR_VIP, DsrTopology } from '../lab/dsr-topology.ts';
import { cable, type Namespace } from '../lab/lab.ts';
import { ECHO, HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';

const CALL = 'net.bridge.bridge-nf-call-iptables';
/** An address of the balancer on the bridge where the servers are. */
const BACK = '10.72.0.1';
/** Port 81 there. */
const inner = { listen: `${BACK}:81`, servers: [`${serverAddress(0)}:${HTTP}`, `${serverAddress(1)}:${HTTP}`] };

/** Ten connections, each answered by a server. */
async function served(client: Namespace, vip: string, port = HTTP): Promise<void> {
  const urls = Array.from({ length: 10 }, () => `http://${vip}:${port}/`);
  const { code, stdout, stderr } = await client.run('curl', '-sS', '--max-time', '60', '-H', 'Connection: close', ...urls);
  expect(stderr + code).toBe('0');
  expect(stdout.trim().split('\n')).toHaveLength(10);
}

/** Chains with rules of lb4. */
function chains(balancer: Namespace): string[] {
  return [...new Set(traces(balancer).rules.map((rule) => `${/-A (\S+)/.exec(rule)?.[1]} ${/-j (.*)/.exec(rule)?.[1]}`))].sort();
}

const RAW = ['PREROUTING DROP'];
const INPUT = ['INPUT DROP', 'PREROUTING CT --notrack'];

describe('passthrough', () => {
  let lab: Topology;
  let balancer: Balancer;
  let container: Namespace;
  let file: string;

  beforeAll(async () => {
    lab = new Topology({ servers: 2, bridged: true });
    lab.balancer.sysctl(CALL, '1');
    container = lab.namespace('container');
    cable(lab.balancer, 'back9', undefined, container, 'eth0', '10.72.0.50/24');
    lab.balancer.ip('link', 'set', 'back9', 'master', 'back');
    container.ip('route', 'add', 'default', 'via', BACK);
    lab.client.ip('route', 'add', 'default', 'via', VIP);
    await lab.startBackends();
    const { frontends } = lab.settings();
    const settings = { frontends: { ...frontends, inner } };
    file = writeConfiguration(lab.balancer, configuration(settings));
    balancer = await startBalancer(lab.balancer, settings);
  });
  afterAll(async () => {
    await lab[Symbol.asyncDispose]();
  });

  /** Flips what `change` flips and waits until lb4 has followed. */
  async function flip(change: () => void, form: 'raw' | 'input'): Promise<void> {
    const told = balancer.running.nextLine(new RegExp(`"form":"${form}".*another form`));
    change();
    await told;
    expect(chains(lab.balancer)).toEqual(form === 'raw' ? RAW : INPUT);
  }

  async function allServed(): Promise<void> {
    await served(lab.client, VIP);
    await served(lab.client, BACK, 81);
    await served(container, VIP);
    await served(container, BACK, 81);
  }

  test('clients and servers on bridges of the balancer, one a container beside the servers: all are served, by rules in INPUT', async () => {
    expect(chains(lab.balancer)).toEqual(INPUT);
    expect(balancer.running.lines.join('\n')).toMatch(/"form":"input","reason":"frames of .*front.* pass iptables/);
    await allServed();
    const echoed = await lab.client.program('client', 'echo', '50', '100000', `${VIP}:${ECHO}`).line(/"ok"/);
    expect(JSON.parse(echoed)).toMatchObject({ ok: 50, errors: [] });
    // The kernel never took a packet for its own: it would have answered with a reset, or tracked the connection.
    expect(lab.balancer.sh('sh', '-c', 'cat /proc/net/nf_conntrack')).not.toMatch(/sport=(3[4-9]|[45]\d)\d{3} /);
  });

  test('lb4 rules and doctor say which form, and why', async () => {
    const printed = await lab.balancer.run(LB4, 'rules', `--config=${file}`);
    expect(printed.stdout).toMatch(/^FORM='input'\nWHY='frames of .*net\.bridge\.bridge-nf-call-iptables = 1'$/m);
    const status = await lab.balancer.run(LB4, 'rules', '--status', `--config=${file}`);
    expect(status).toMatchObject({ code: 0, stdout: expect.stringMatching(/^form input: frames of/) });
    const doctor = await lab.balancer.run(LB4, 'doctor', `--config=${file}`);
    expect(doctor.stdout).toMatch(/^ok {4}bridge: frames of .*INPUT/m);
    expect(doctor.stdout).not.toMatch(/^fail/m);
  });

  test('the sysctl goes from 1 to 0 and back, then one bridge asks for it alone: lb4 follows, and requests go on', async () => {
    await flip(() => lab.balancer.sysctl(CALL, '0'), 'raw');
    await allServed();
    await flip(() => lab.balancer.sysctl(CALL, '1'), 'input');
    await allServed();
    await flip(() => lab.balancer.sysctl(CALL, '0'), 'raw');
    await flip(() => lab.balancer.ip('link', 'set', 'back', 'type', 'bridge', 'nf_call_iptables', '1'), 'input');
    await allServed();
  });

  test('the stop leaves no rule of either form', async () => {
    expect(await balancer.stop()).toEqual({ code: 0, signal: null });
    expect(traces(lab.balancer)).toEqual(NOTHING);
  });
});

test('passthrough without a bridge keeps the raw form, br_netfilter or not; one that is made later is followed', async () => {
  await using lab = new Topology({ servers: 1 });
  lab.balancer.sysctl(CALL, '1');
  const balancer = await lab.serve();
  expect(chains(lab.balancer)).toEqual(RAW);
  const told = balancer.running.nextLine(/"form":"input".*frames of late pass/);
  // The cable to the client becomes a port of a bridge, which takes over its address.
  lab.balancer.ip('link', 'add', 'late', 'type', 'bridge');
  lab.balancer.ip('addr', 'flush', 'dev', 'front');
  lab.balancer.ip('link', 'set', 'front', 'master', 'late');
  lab.balancer.ip('addr', 'add', `${VIP}/24`, 'dev', 'late');
  lab.balancer.ip('link', 'set', 'late', 'up');
  await told;
  lab.client.ip('neigh', 'flush', 'all');
  await served(lab.client, VIP);
  await balancer.stop('SIGKILL');
  const file = writeConfiguration(lab.balancer, configuration(lab.settings()));
  lab.balancer.sh(LB4, 'rules', '--remove', `--config=${file}`);
  expect(traces(lab.balancer)).toEqual(NOTHING);
});

test('proxy mode is served on bridges', async () => {
  await using lab = new Topology({ servers: 2, bridged: true });
  lab.balancer.sysctl(CALL, '1');
  await lab.startBackends();
  await startBalancer(lab.balancer, lab.settings(), { args: ['proxy'] });
  await served(lab.client, VIP);
});

test('DSR by nat and by l2: client and servers on a bridge of the balancer, the servers by bridges of their own', async () => {
  await using lab = new DsrTopology({ bridged: true });
  for (const host of [lab.balancer, ...lab.servers]) host.sysctl(CALL, '1');
  await lab.startServers();
  for (const dsr of ['nat', 'l2'] as const) {
    const settings = lab.settings(dsr);
    lab.rules(settings, 'install');
    const balancer = await lab.serve(settings);
    expect(chains(lab.balancer)).toEqual(INPUT);
    await served(lab.client, DSR_VIP);
    expect(await balancer.stop()).toEqual({ code: 0, signal: null });
    expect(traces(lab.balancer)).toEqual(NOTHING);
    lab.rules(settings, 'remove');
  }
});

test('a kernel without the CT target: the start says so, and how to mend it', async () => {
  await using lab = new Topology({ servers: 1, bridged: true });
  lab.balancer.sysctl(CALL, '1');
  const wrapper = `${lab.directory}/no-ct`;
  lab.balancer.sh(
    'sh',
    '-c',
    `for s in '' -save; do printf '#!/bin/sh\\nexec iptables%s "$@"\\n' "$s" >${wrapper}$s; done
     printf '#!/bin/sh\\ncat >${wrapper}.in\\ngrep -q "j CT" ${wrapper}.in && { echo "iptables-restore: line 3 failed" >&2; exit 1; }
     exec iptables-restore "$@" <${wrapper}.in\\n' >${wrapper}-restore; chmod +x ${wrapper}*`,
  );
  const file = writeConfiguration(lab.balancer, configuration(lab.settings()));
  const { code, stderr } = await lab.balancer.run('env', `LB4_IPTABLES=${wrapper}`, LB4, '--passthrough', `--config=${file}`);
  expect(code).toBe(77);
  expect(stderr).toMatch(
    /this kernel has no CT target \(xt_CT.*frames of .*modprobe xt_CT.*sysctl -w net\.bridge\.bridge-nf-call-iptables=0/,
  );
  expect(traces(lab.balancer)).toEqual(NOTHING);
});
