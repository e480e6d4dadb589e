/** In the guest: the fast path on a kernel without tcx, killed during transfers; what it leaves. */
import { deepStrictEqual, ok, strictEqual } from 'node:assert';
import { contentHash } from '../../lab/content.ts';
import { Live } from '../../lab/live.ts';
import { NOTHING, traces } from '../../lab/traces.ts';
import { waitUntil } from '../../lab/wait.ts';

const [TRANSFERS, SIZE, SECONDS] = [3, 1_000_000, 10];

await using live = await Live.start('passthrough', { more: '[passthrough]\nconnection_tracker_capacity = 10000\nfast_path = "tc"' });
const { client, balancer: host } = live.lab;
const packets = () => live.metric('lb4_fast_path_packets_total');
const filters = () => host.sh('tc', 'filter', 'show', 'dev', 'front', 'ingress');
ok(filters().includes('lb4_tc'), live.balancer.running.lines.join('\n'));

const curl = `curl -sS --limit-rate ${SIZE / SECONDS} http://${live.vip}/content/${SIZE}`;
const transfers = Array.from({ length: TRANSFERS }, () => client.run('sh', '-c', `${curl} | sha256sum`));
await waitUntil(async () => (await packets()) > 10, { what: 'packets in the kernel' });
process.stdout.write(`the kernel forwarded ${await packets()} packets\n`);

await live.balancer.stop('SIGKILL');
for (const { stdout } of await Promise.all(transfers)) strictEqual(stdout.split(' ')[0], contentHash(SIZE));
process.stdout.write('transfers ended while nobody ran\n');

await live.launch();
strictEqual((await client.run('curl', '-sS', '--max-time', '30', `http://${live.vip}/`)).code, 0);
deepStrictEqual(await live.balancer.stop(), { code: 0, signal: null });
deepStrictEqual(traces(host), NOTHING);
strictEqual(host.sh('tc', 'qdisc', 'show', 'dev', 'front').includes('clsact'), false);
process.stdout.write('it has left nothing\n');
