/** In the guest: the fast path on a kernel without tcx: what it wraps; killed during transfers; what it leaves. */
import { deepStrictEqual, ok, strictEqual } from 'node:assert';
import { spawnSync } from 'node:child_process';
import { interfacesNow } from '../../../src/io/interfaces.ts';
import { wrapsAlike } from '../../lab/kernel-wrapped.ts';
import { Live } from '../../lab/live.ts';
import { NOTHING, traces } from '../../lab/traces.ts';
import { Transfers } from '../../lab/transfers.ts';
import { pause, waitUntil } from '../../lab/wait.ts';
import { HASH_KEY, MAC } from '../../lab/world.ts';

/** Of this size the servers give 60,000 bytes a second: nobody runs for 20 s of these 40, the rest is for machines that start slowly. */
const [TRANSFERS, SIZE, AWAY_MS] = [10, 2_400_000, 20_000];

// The guest's own namespace is for that; labs have theirs. The index is as in test/netns/fast-path.test.ts.
spawnSync('ip', ['link', 'add', 'front', 'index', '257', 'address', MAC.front, 'type', 'veth', 'peer', 'name', 'front2']);
const interfaces = new Map([[MAC.front, interfacesNow().find(({ name }) => name === 'front')!.index]]);
for (const program of ['tc', 'xdp'] as const) deepStrictEqual(wrapsAlike({ program, capacity: 256, key: HASH_KEY, interfaces }), []);
spawnSync('ip', ['link', 'del', 'front']);
process.stdout.write('packets are wrapped as user space does\n');

await using live = await Live.start('passthrough', {
  more: '[passthrough]\nworkers = 2\nconnection_tracker_capacity = 10000\nfast_path = "tc"',
});
const { client, balancer: host } = live.lab;
const packets = () => live.metric('lb4_fast_path_packets_total');
const filters = () => host.sh('tc', 'filter', 'show', 'dev', 'front', 'ingress');
ok(filters().includes('lb4_tc'), live.balancer.running.lines.join('\n'));

const transfers = await Transfers.start(client, TRANSFERS, `http://${live.vip}/paced/${SIZE}`);
await waitUntil(async () => (await packets()) > 10 * TRANSFERS, { what: 'packets in the kernel' });
await transfers.stalled('with lb4');
process.stdout.write(`the kernel forwarded ${await packets()} packets\n`);

await live.balancer.stop('SIGKILL');
const away = pause(AWAY_MS);
await transfers.goOn(SIZE / 10, 'while nobody ran');
await away;
await transfers.stalled('then');
await live.launch();
process.stdout.write(`transfers unspoilt; ${await transfers.arrive(SIZE)}\n`);
strictEqual((await client.run('curl', '-sS', '--max-time', '30', `http://${live.vip}/`)).code, 0);
deepStrictEqual(await live.balancer.stop(), { code: 0, signal: null });
deepStrictEqual(traces(host), NOTHING);
strictEqual(host.sh('tc', 'qdisc', 'show', 'dev', 'front').includes('clsact'), false);
process.stdout.write('it has left nothing\n');
