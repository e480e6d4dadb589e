/** lb4 between interfaces as time goes on: reloads that change the interfaces, MTUs that differ, its death, and another one that takes over. */
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Balancer, writeConfiguration } from '../lab/balancer.ts';
import { holdConnections, othersLiveOn } from '../lab/hold.ts';
import { flood, ping, SERVICE, serve, startInline, textOf, udp, web } from '../lab/inline.ts';
import { cable, Lab, type Namespace, ROOT } from '../lab/lab.ts';
import { PYTHON } from '../lab/processes.ts';
import { waitUntil } from '../lab/wait.ts';

const JUMBO = 9000;
const CLIENT = '192.178.1.1';
const SERVER = '192.178.1.2';

/**
 *     client 192.178.1.1 ── eth0 ┐
 *                                box ── eth1 ── server 192.178.1.2, and its MTU is 1500
 *     other  192.178.1.3 ── eth2 ┘
 */
describe.each(['off', 'tc', 'xdp'])('fast_path = %s', (fastPath) => {
  const lab = new Lab();
  const [client, other, box, server] = ['client', 'other', 'box', 'server'].map((name) => lab.namespace(name)) as [
    Namespace,
    Namespace,
    Namespace,
    Namespace,
  ];
  let config = '';
  let lb4: Balancer;
  const ports = (...names: string[]) => `[inline]\nfrontends = [${names.map((name) => `"${name}"`).join()}]\nbackend = "eth1"`;
  const text = (...names: string[]) => textOf(ports(...names), SERVER, `fast_path = "${fastPath}"`);
  const inKernel = async () => (fastPath === 'off' ? undefined : (await lb4.stats()).lb4.fast_path?.forwarded);
  const reload = (...names: string[]) => take(text(...names));
  // In one step: what is written in place is taken two seconds later as well, however often SIGHUP has done so, and that line is none of the next reload's.
  const replace = (toml: string) => {
    writeFileSync(`${config}.new`, toml);
    renameSync(`${config}.new`, config);
  };
  const take = async (toml: string) => {
    const reloaded = lb4.running.nextLine(/"msg":"configuration reloaded"/);
    replace(toml);
    await reloaded;
  };
  const kernelsPart = (port: string) => [
    box.sh('nft', 'list', 'ruleset').includes(`"${port}"`),
    box.sh('cat', `/proc/sys/net/ipv6/conf/${port}/disable_ipv6`).trim(),
  ];

  beforeAll(async () => {
    cable(client, 'eth0', `${CLIENT}/24`, box, 'eth0', undefined, JUMBO);
    cable(other, 'eth0', '192.178.1.3/24', box, 'eth2', undefined);
    cable(server, 'eth0', `${SERVER}/24`, box, 'eth1', undefined);
    for (const host of [client, other]) host.later(`route add default via ${SERVER}`);
    config = writeConfiguration(box, text('eth0'));
    await serve(server, SERVER);
    // It must stand in front of this one, which lets nobody behind it see a frame.
    if (fastPath !== 'off') await box.start([PYTHON, join(ROOT, 'test/lab/foreign.py'), 'accept', 'eth1']).line(/^stands$/);
    lb4 = await startInline(box, config);
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  test('larger than the other side’s MTU: a service says so, and what is no service’s is dropped and counted', async () => {
    // It ends at once by an error.
    const large = (at: string, seconds = 1) => client.run('ping', '-c1', `-W${seconds}`, '-Mdo', '-s3000', at);
    expect((await large(SERVICE, 20)).stdout).toMatch(/From 10\.0\.0\.1 .*Frag needed .*mtu = 1500/);
    const before = await lb4.verdict('dropTooLong');
    expect((await large(SERVER)).stdout).toContain('100% packet loss');
    expect(await lb4.verdict('dropTooLong')).toBe(before + 1);
    // A path of which the client has learnt.
    const forwarded = await inKernel();
    expect(await web(client, SERVICE, '/content/1000000')).toBe(`200 ${CLIENT}`);
    if (forwarded !== undefined) expect(await inKernel()).toBeGreaterThan(forwarded + 20);
  });

  test('no frame is forwarded twice, by lb4 and the kernel', async () => {
    const forwarded = await inKernel();
    expect(await flood(client, SERVICE, 80)).toBe('200 200');
    if (forwarded !== undefined) expect(await inKernel()).toBeGreaterThan(forwarded + 300);
  });

  test('fragments of a service’s datagrams follow their first one', async () => {
    expect(await udp(client, SERVICE, 80, 4000)).toBe(`${CLIENT} ${SERVICE} 80`);
  });

  test('src_ip_rewrite and affinity: servers see the other address, and answer it', async () => {
    server.ip('route', 'add', '10.9.9.0/24', 'via', CLIENT);
    const keys = 'affinity = 60\nsrc_ip_rewrite = { clients = "192.178.1.0/24", as = "10.9.9.0/24" }\n';
    await take(text('eth0').replace('[backends.web]\n', `[backends.web]\n${keys}`));
    const forwarded = await inKernel();
    expect(await web(client, SERVICE, '/content/1000000')).toBe('200 10.9.9.1');
    if (forwarded !== undefined) expect(await inKernel()).toBeGreaterThan(forwarded + 20);
    await reload('eth0');
    expect(await web(client, SERVICE)).toBe(`200 ${CLIENT}`);
  });

  test('one that a reload adds is taken up, one that it takes away is the kernel’s again; connections go on', async () => {
    const hold = await holdConnections(client, 5, `${SERVICE}:7`);
    expect(kernelsPart('eth2')).toEqual([false, '0']);
    await reload('eth0', 'eth2');
    await Promise.all([ping(other, SERVER), ping(client, SERVER), ping(other, SERVICE)]);
    expect(kernelsPart('eth2')).toEqual([true, '1']);
    expect(await othersLiveOn(hold)).toEqual([]);
    await reload('eth2', 'eth0');
    expect(await othersLiveOn(hold)).toEqual([]);
    await reload('eth0');
    await waitUntil(() => kernelsPart('eth2').join() === 'false,0', { what: "eth2 to be the kernel's again", every: 50 });
    expect(await othersLiveOn(hold)).toEqual([]);
    // Nothing of lb4 is left in its way.
    box.ip('addr', 'add', '192.178.1.9/24', 'dev', 'eth2');
    await ping(other, '192.178.1.9');
    box.ip('addr', 'flush', 'dev', 'eth2');
    hold.end();
  });

  test('one that a reload cannot take up is told in one line, and all stays as it was', async () => {
    const told = lb4.running.nextLine(/inline\.frontends\.1: there is no interface eth9/);
    replace(text('eth0', 'eth9'));
    await told;
    await lb4.running.line(/reload failed/);
    await ping(client, SERVER);
    await reload('eth0');
  });

  test('down and up, and made anew by the same name: its connections go on', async () => {
    const hold = await holdConnections(client, 5, `${SERVICE}:7`);
    box.ip('link', 'set', 'eth1', 'down');
    await lb4.running.line(/frames do not pass \(eth1 is down\)/);
    box.ip('link', 'set', 'eth1', 'up');
    expect(await othersLiveOn(hold)).toEqual([]);
    const mac = client.mac('eth0');
    box.ip('link', 'del', 'eth0');
    cable(client, 'eth0', `${CLIENT}/24`, box, 'eth0', undefined, JUMBO);
    client.later(`link set eth0 address ${mac}`);
    client.later(`route add default via ${SERVER}`);
    lab.settle();
    expect(await othersLiveOn(hold)).toEqual([]);
    hold.end();
  });

  test('killed, and started with another interface: connections go on, the old interface is the kernel’s', async () => {
    await reload('eth0', 'eth2');
    const hold = await holdConnections(client, 5, `${SERVICE}:7`);
    await lb4.stop('SIGKILL');
    // What the kernel has it goes on with (at a veth, to which nobody need be promiscuous); what it has not it does not forward.
    expect((await client.run('ping', '-c1', '-W1', SERVER)).code).not.toBe(0);
    if (fastPath !== 'off') expect(await othersLiveOn(hold)).toEqual([]);
    writeFileSync(config, text('eth0'));
    lb4 = await startInline(box, config);
    await ping(client, SERVER);
    expect(await othersLiveOn(hold)).toEqual([]);
    expect([kernelsPart('eth0'), kernelsPart('eth2')]).toEqual([
      [true, '1'],
      [false, '0'],
    ]);
    hold.end();
  });

  test('another one takes over, with another interface: nothing is lost but for a moment', async () => {
    const hold = await holdConnections(client, 5, `${SERVICE}:7`);
    const old = lb4;
    writeFileSync(config, text('eth0', 'eth2'));
    const links = box.start(['ip', '-d', '-o', 'monitor', 'link']);
    let changes = 0;
    const isHeard = () => {
      box.ip('link', 'set', 'eth0', 'alias', `change ${++changes}`);
      return links.lines.some((line) => line.includes('eth0'));
    };
    await waitUntil(isHeard, { what: 'changes of links to be told' });
    lb4 = await startInline(box, config, '--takeover');
    expect(await old.running.exited).toEqual({ code: 0, signal: null });
    await Promise.all([ping(client, SERVER), ping(other, SERVICE)]);
    expect(await othersLiveOn(hold)).toEqual([]);
    hold.end();
    // A NIC that is promiscuous for nobody, be it for a moment, takes nothing of what passes.
    expect(links.lines.filter((line) => /eth[01]\b.*promiscuity 0/.test(line))).toEqual([]);
    links.signal('SIGTERM');
    expect((await lb4.stop()).code).toBe(0);
    await waitUntil(() => kernelsPart('eth0')[0] === false, { what: 'nothing to be left' });
    expect(kernelsPart('eth2')).toEqual([false, '0']);
  });
});
