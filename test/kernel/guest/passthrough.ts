/** In the guest: `lb4 --passthrough` between a client and two servers, on a stock kernel. */
import { deepStrictEqual, strictEqual } from 'node:assert';
import type { EchoReport } from '../../lab/client.ts';
import { contentHash } from '../../lab/content.ts';
import { ECHO, Topology, VIP } from '../../lab/topology.ts';

const SIZE = 3_000_000;

await using lab = new Topology({ servers: 2 });
const balancer = await lab.serve({ more: '[passthrough]\nconnection_tracker_capacity = 10000' });

const { stdout } = await lab.client.run('sh', '-c', `curl -sS --max-time 200 http://${VIP}/content/${SIZE} | sha256sum`);
strictEqual(stdout.split(' ')[0], contentHash(SIZE));

const echo = lab.client.program('client', 'echo', '20', '5000', `${VIP}:${ECHO}`);
const report = JSON.parse(await echo.line(/^\{/)) as EchoReport;
deepStrictEqual({ ok: report.ok, errors: report.errors }, { ok: 20, errors: [] });
deepStrictEqual(Object.keys(report.servers).sort(), ['server1', 'server2']);
process.stdout.write(`forwarded ${(await balancer.stats()).total_connections} connections\n`);

deepStrictEqual(await balancer.stop(), { code: 0, signal: null });
