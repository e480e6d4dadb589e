/** In the guest: `lb4 --passthrough` between a client and two servers, on a stock kernel; and, since this clock is nobody's, one that jumps. */
import { deepStrictEqual, strictEqual } from 'node:assert';
import type { EchoReport } from '../../lab/client.ts';
import { contentHash } from '../../lab/content.ts';
import { holdConnections, othersLiveOn } from '../../lab/hold.ts';
import { ECHO, HTTP, serverAddress, Topology, VIP } from '../../lab/topology.ts';

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

// A day forward, and two back: connections live on, checks go on, new clients are served.
const held = await holdConnections(lab.client, 5, `${VIP}:${ECHO}`, 200);
for (const jump of ['+86400', '-172800']) {
  const now = Math.floor(Date.now() / 1000);
  lab.client.sh('date', '-u', '-s', `@${now + Number(jump)}`);
  deepStrictEqual(await othersLiveOn(held), []);
  const { stdout: answer } = await lab.client.run('curl', '-sS', '--max-time', '60', '-o/dev/null', '-w%{http_code}', `http://${VIP}/`);
  strictEqual(answer, '200');
}
await lab.killBackend(0);
await balancer.health({ [`${serverAddress(0)}:${HTTP}`]: false });
process.stdout.write('the clock jumped a day forward and two back\n');

deepStrictEqual(await balancer.stop(), { code: 0, signal: null });
