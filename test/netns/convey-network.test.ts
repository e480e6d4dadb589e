/** Networks that Convey cannot serve, and lb4 can. VLANs: test/kernel/guest/vlan.ts, with a kernel that has them. */
import { expect, test } from 'vitest';
import { startBalancer } from '../lab/balancer.ts';
import { HTTP, Topology } from '../lab/topology.ts';

const PROXY = { args: ['proxy'] };

test('Convey: IPv6 unsupported', async () => {
  await using lab = new Topology({ servers: 1 });
  const server = lab.servers[0];
  for (const [host, device, address] of [
    [lab.client, 'eth0', 'fd71::101/64'],
    [lab.balancer, 'front', 'fd71::1/64'],
    [lab.balancer, 'back', 'fd72::1/64'],
    [server, 'eth0', 'fd72::11/64'],
  ] as const) {
    host.ip('addr', 'add', address, 'dev', device, 'nodad');
  }
  const serve = `require('http').createServer((asked, answer) => answer.end(asked.socket.remoteAddress))
    .listen(${HTTP}, 'fd72::11', () => console.log('listening'));`;
  await server.start([process.execPath, '-e', serve]).line(/^listening/);
  const settings = { frontends: { http: { listen: `[fd71::1]:${HTTP}`, servers: [`[fd72::11]:${HTTP}`] } } };
  const balancer = await startBalancer(lab.balancer, settings, PROXY);
  const { stdout } = await lab.client.run('curl', '-sS', '--max-time', '60', `http://[fd71::1]:${HTTP}/`);
  expect(stdout).toBe('fd72::1');
  expect(await balancer.stop()).toEqual({ code: 0, signal: null });
});

test('Convey: loopback unsupported', async () => {
  await using lab = new Topology({ servers: 1 });
  await lab.balancer.program('backend', 'at home', 'http=8080').line(/^listening/);
  const settings = { frontends: { http: { listen: `127.0.0.1:${HTTP}`, servers: ['127.0.0.1:8080'] } } };
  const balancer = await startBalancer(lab.balancer, settings, PROXY);
  const { stdout } = await lab.balancer.run('curl', '-sS', '--max-time', '60', `http://127.0.0.1:${HTTP}/`);
  expect(stdout).toBe('at home\n');
  expect(await balancer.stop()).toEqual({ code: 0, signal: null });
});
