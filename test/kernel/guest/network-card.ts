/** In the guest: `fast_path = "auto"` on network cards whose driver knows XDP (virtio_net): client, balancer and server on two wires. */
import { ok, strictEqual } from 'node:assert';
import { startBalancer } from '../../lab/balancer.ts';
import { Capture } from '../../lab/capture.ts';
import { contentHash } from '../../lab/content.ts';
import { Lab, type Namespace } from '../../lab/lab.ts';
import { host } from '../../lab/processes.ts';
import { HTTP, serverAddress, VIP } from '../../lab/topology.ts';

const SIZE = 1_000_000;

await using lab = new Lab();
const client = lab.namespace('client');
const balancer = lab.namespace('balancer');
const server = lab.namespace('server');
client.sh('true'); // the namespaces are made

/** Two cards of a wire are neighbours, in the order of their numbers. */
function card(number: number, namespace: Namespace, name: string, address: string): void {
  host('ip', 'link', 'set', `eth${number}`, 'netns', namespace.name, 'name', name);
  namespace.ip('addr', 'add', address, 'dev', name);
  namespace.ip('link', 'set', name, 'up');
}
host('modprobe', '-a', 'virtio_pci', 'virtio_net');
card(0, client, 'eth0', '10.71.0.101/24');
card(1, balancer, 'front', `${VIP}/24`);
card(2, balancer, 'back', '10.72.0.1/24');
card(3, server, 'eth0', `${serverAddress(0)}/24`);
server.ip('route', 'add', '10.71.0.0/24', 'via', '10.72.0.1');

await server.program('backend', 'server1', `http=${HTTP}`).line(/^listening/);
const lb4 = await startBalancer(balancer, {
  frontends: { http: { listen: `${VIP}:${HTTP}`, servers: [`${serverAddress(0)}:${HTTP}`] } },
  more: '[passthrough]\nconnection_tracker_capacity = 10000\nfast_path = "auto"',
});
for (const name of ['front', 'back']) ok(/prog\/xdp /.test(balancer.ip('link', 'show', name)), lb4.running.lines.join('\n'));
const above = await Capture.start(balancer, 'any', `tcp port ${HTTP} and host 10.71.0.101`, 96);
const { stdout } = await client.run('sh', '-c', `curl -sS --max-time 200 http://${VIP}/content/${SIZE} | sha256sum`);
strictEqual(stdout.split(' ')[0], contentHash(SIZE));
const taken = await lb4.metric('lb4_fast_path_packets_total');
const seen = (await above.stop()).length;
// tcpdump sees what goes up, to tc, too: the handshake, the ends, and nothing between.
ok(taken > SIZE / 1448 && seen < 30, `${taken} packets by the fast path, ${seen} went up`);
process.stdout.write(`in the drivers: ${taken} packets, ${seen} went up\n`);
strictEqual((await lb4.stop()).code, 0);
for (const name of ['front', 'back']) ok(!balancer.ip('link', 'show', name).includes('xdp'), 'XDP stays');
