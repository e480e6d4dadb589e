/** In the guest: `lb4 --passthrough` on VLAN interfaces, over two cables that carry nothing but tagged frames: 10 in front, 20 at the back. */
import { ok, strictEqual } from 'node:assert';
import { startBalancer } from '../../lab/balancer.ts';
import { Capture } from '../../lab/capture.ts';
import { contentHash } from '../../lab/content.ts';
import { file, SERVICE, startInline, web } from '../../lab/inline.ts';
import { cable, Lab, type Namespace } from '../../lab/lab.ts';
import { HTTP, serverAddress, VIP } from '../../lab/topology.ts';

const SIZE = 3_000_000;

function tagged(namespace: Namespace, device: string, id: number, address: string): void {
  const name = `${device}.${id}`;
  namespace.ip('link', 'add', 'link', device, 'name', name, 'type', 'vlan', 'id', `${id}`);
  namespace.ip('addr', 'add', address, 'dev', name);
  namespace.ip('link', 'set', name, 'up');
}

await using lab = new Lab();
const client = lab.namespace('client');
const balancer = lab.namespace('balancer');
const server = lab.namespace('server');
cable(client, 'eth0', undefined, balancer, 'front', undefined);
cable(balancer, 'back', undefined, server, 'eth0', undefined);
tagged(client, 'eth0', 10, '10.71.0.101/24');
tagged(balancer, 'front', 10, `${VIP}/24`);
tagged(balancer, 'back', 20, '10.72.0.1/24');
tagged(server, 'eth0', 20, `${serverAddress(0)}/24`);
server.ip('route', 'add', '10.71.0.0/24', 'via', '10.72.0.1');

await server.program('backend', 'server1', `http=${HTTP}`).line(/^listening/);
const lb4 = await startBalancer(balancer, {
  frontends: { http: { listen: `${VIP}:${HTTP}`, servers: [`${serverAddress(0)}:${HTTP}`] } },
  more: '[passthrough]\nconnection_tracker_capacity = 10000',
});
const wires = [
  { id: 10, all: await Capture.start(client, 'eth0', 'tcp or vlan', 96) },
  { id: 20, all: await Capture.start(server, 'eth0', 'tcp or vlan', 96) },
];
const { stdout } = await client.run('sh', '-c', `curl -sS --max-time 200 http://${VIP}/content/${SIZE} | sha256sum`);
strictEqual(stdout.split(' ')[0], contentHash(SIZE));
for (const { id, all } of wires) {
  const lines = await all.stop('-e');
  ok(lines.length > 10, `${lines.length} frames in VLAN ${id}`);
  for (const line of lines) ok(line.includes(`vlan ${id}, `), line);
}
process.stdout.write('all of it with its tag\n');
strictEqual((await lb4.stop()).code, 0);

// Between the two interfaces, in one VLAN: a service's connection keeps its tag, with a fast path beside it, which leaves tagged frames to lb4.
const inline = lab.namespace('inline');
const [alice, bob] = [lab.namespace('alice'), lab.namespace('bob')];
cable(alice, 'eth0', undefined, inline, 'eth0', undefined);
cable(bob, 'eth0', undefined, inline, 'eth1', undefined);
tagged(alice, 'eth0', 7, '192.178.1.1/24');
tagged(bob, 'eth0', 7, '192.178.1.2/24');
alice.ip('route', 'add', 'default', 'via', '192.178.1.2');
await bob.program('backend', 'server', 'http=80').line(/^listening/);
const more = 'fast_path = "tc"\nconnection_tracker_capacity = 10000';
const between = await startInline(inline, file(inline, '[inline]\nfrontends = ["eth0"]\nbackend = "eth1"', '192.178.1.2', more));
strictEqual(await web(alice, SERVICE, `/content/${SIZE}`), '200 192.178.1.1');
process.stdout.write('a service between interfaces, in a VLAN\n');
strictEqual((await between.stop()).code, 0);
