/**
 * Path MTU discovery through lb4 (RFC 1191): a 1,400-byte hop between two routers, on either side.
 *
 *     client ── balancer ── near ══1400══ far ── server        client ── far ══1400══ near ── balancer ── server
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { LB4, startBalancer } from '../lab/balancer.ts';
import { Capture } from '../lab/capture.ts';
import { contentHash } from '../lab/content.ts';
import { cable, Lab, type Namespace } from '../lab/lab.ts';
import { VIP } from '../lab/topology.ts';
import { hashOfUpload } from '../lab/upload.ts';

const SIZE = 3_000_000;

interface Hosts {
  readonly client: Namespace;
  readonly balancer: Namespace;
  readonly server: Namespace;
}

/** Two routers with a 1,400-byte cable between them: `near` gets `address`/24 towards the balancer, `far` `beyond`/24. */
function narrowPath(lab: Lab, balancer: [Namespace, string, string], address: string, beyond: string, host: [Namespace, string]): void {
  const near = lab.namespace('near');
  const far = lab.namespace('far');
  cable(balancer[0], balancer[1], `${balancer[2]}/24`, near, 'in', `${address}/24`);
  cable(near, 'out', '10.74.0.1/24', far, 'in', '10.74.0.2/24', 1400);
  cable(far, 'out', `${beyond}/24`, host[0], 'eth0', `${host[1]}/24`);
  for (const router of [near, far]) router.sysctl('net.ipv4.ip_forward', '1');
  const network = host[1].replace(/\d+$/, '0/24');
  balancer[0].ip('route', 'add', network, 'via', address);
  near.ip('route', 'add', network, 'via', '10.74.0.2');
  near.ip('route', 'replace', 'default', 'via', balancer[2]);
  far.ip('route', 'add', 'default', 'via', '10.74.0.1');
  host[0].ip('route', 'add', 'default', 'via', beyond);
}

function three(lab: Lab): Hosts {
  return { client: lab.namespace('client'), balancer: lab.namespace('balancer'), server: lab.namespace('server') };
}

async function serve({ balancer, server }: Hosts, address: string) {
  await server.program('backend', 'server1', 'http=80').line(/^listening/);
  return startBalancer(balancer, { frontends: { http: { listen: `${VIP}:80`, servers: [`${address}:80`] } } });
}

async function download(client: Namespace): Promise<string> {
  const { stdout } = await client.run('sh', '-c', `curl -sS --max-time 80 http://${VIP}/content/${SIZE} | sha256sum`);
  return stdout.slice(0, 64);
}

/** `lb4 doctor` finds that a server's tunnel is narrower than its route says, and the kernel of this host does not learn it by that; by ping(8) it does. */
async function leavesNoTrace(lab: Lab, balancer: Namespace, server: string): Promise<void> {
  const config = join(lab.directory, 'tunnel.toml');
  const backend = `backends.b = { dsr = "gue", servers.s.addr = "${server}:80" }`;
  writeFileSync(config, `frontends.a = { listen_addr = "${VIP}:80", backend = "b" }\n${backend}\n`);
  const learnt = () => balancer.ip('route', 'get', server);
  expect(learnt()).not.toContain('mtu');
  const { stdout } = await balancer.run(LB4, 'doctor', '--dsr', `--config=${config}`);
  expect(stdout).toMatch(new RegExp(`^fail {2}path MTU: server ${server} answers small pings, and none of 1500 bytes`, 'm'));
  expect(learnt()).not.toContain('mtu');
  await balancer.run('ping', '-M', 'do', '-s', '1472', '-c', '3', '-W', '1', server);
  expect(learnt()).toContain('mtu 1400');
}

for (const offloads of ['on', 'off'] as const) {
  test(`behind lb4, offloads ${offloads}: the client learns it`, async () => {
    await using lab = new Lab();
    const hosts = three(lab);
    cable(hosts.client, 'eth0', '10.71.0.101/24', hosts.balancer, 'front', `${VIP}/24`);
    narrowPath(lab, [hosts.balancer, 'back', '10.72.0.1'], '10.72.0.254', '10.73.0.254', [hosts.server, '10.73.0.11']);
    if (offloads === 'off') hosts.client.offloads('eth0', 'off');
    const balancer = await serve(hosts, '10.73.0.11');
    const errors = await Capture.start(hosts.client, 'eth0', 'icmp');
    expect(await hashOfUpload(hosts.client, `http://${VIP}/`, SIZE)).toBe(contentHash(SIZE));
    expect(await download(hosts.client)).toBe(contentHash(SIZE));
    expect(hosts.client.ip('route', 'get', VIP)).toMatch(/mtu 1400/);
    const lines = await errors.stop('-vv');
    expect(lines.join('\n')).toContain('need to frag (mtu 1400)');
    expect(lines.filter((line) => /bad cksum|wrong icmp cksum/.test(line))).toEqual([]);
    expect(await balancer.verdict('icmpTranslated')).toBeGreaterThanOrEqual(1);
    expect((await balancer.stop()).code).toBe(0);
    if (offloads === 'on') await leavesNoTrace(lab, hosts.balancer, '10.73.0.11');
  });

  test(`before lb4, offloads ${offloads}: the server learns it`, async () => {
    await using lab = new Lab();
    const hosts = three(lab);
    narrowPath(lab, [hosts.balancer, 'front', VIP], '10.71.0.254', '10.75.0.254', [hosts.client, '10.75.0.101']);
    cable(hosts.balancer, 'back', '10.72.0.1/24', hosts.server, 'eth0', '10.72.0.11/24');
    hosts.server.ip('route', 'add', '10.71.0.0/24', 'via', '10.72.0.1');
    if (offloads === 'off') hosts.server.offloads('eth0', 'off');
    const balancer = await serve(hosts, '10.72.0.11');
    const errors = await Capture.start(hosts.server, 'eth0', 'icmp');
    expect(await download(hosts.client)).toBe(contentHash(SIZE));
    expect(await hashOfUpload(hosts.client, `http://${VIP}/`, SIZE)).toBe(contentHash(SIZE));
    expect(hosts.server.ip('route', 'get', VIP)).toMatch(/mtu 1400/);
    const lines = await errors.stop('-vv');
    expect(lines.join('\n')).toContain('need to frag (mtu 1400)');
    expect(lines.filter((line) => /bad cksum|wrong icmp cksum/.test(line))).toEqual([]);
    expect(await balancer.verdict('icmpTranslated')).toBeGreaterThanOrEqual(1);
    expect((await balancer.stop()).code).toBe(0);
  });
}

test('lb4’s own next hop is the narrow one: lb4 tells the client', async () => {
  await using lab = new Lab();
  const hosts = three(lab);
  cable(hosts.client, 'eth0', '10.71.0.101/24', hosts.balancer, 'front', `${VIP}/24`);
  cable(hosts.balancer, 'back', '10.72.0.1/24', hosts.server, 'eth0', '10.72.0.11/24');
  hosts.server.ip('route', 'add', '10.71.0.0/24', 'via', '10.72.0.1');
  hosts.balancer.ip('link', 'set', 'back', 'mtu', '1400');
  const balancer = await serve(hosts, '10.72.0.11');
  expect(await hashOfUpload(hosts.client, `http://${VIP}/`, SIZE)).toBe(contentHash(SIZE));
  expect(hosts.client.ip('route', 'get', VIP)).toMatch(/mtu 1400/);
  expect(await balancer.verdict('tooBig')).toBeGreaterThanOrEqual(1);
  expect((await balancer.stop()).code).toBe(0);
});
