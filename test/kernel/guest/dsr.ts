/** In the guest: `lb4 --dsr` end to end, with servers that answer by the tc dialect, which needs act_nat. */
import { deepStrictEqual, notStrictEqual, ok, strictEqual } from 'node:assert';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Balancer, configuration, LB4, STATS_PORT, writeConfiguration } from '../../lab/balancer.ts';
import { Capture } from '../../lab/capture.ts';
import type { EchoReport } from '../../lab/client.ts';
import { contentHash } from '../../lab/content.ts';
import { DsrTopology, SERVERS, VIP } from '../../lab/dsr-topology.ts';
import type { Namespace } from '../../lab/lab.ts';

const SIZE = 2_000_000;

await using lab = new DsrTopology();
const { client, balancer, servers } = lab;
for (const [index, server] of servers.entries())
  await server.program('backend', `server${index + 1}`, 'http=80', 'echo=7').line(/^listening/);

const over = (number: number) => SERVERS.map((address) => `${address}:${number}`);
const file = writeConfiguration(
  balancer,
  configuration({
    frontends: { http: { listen: `${VIP}:80`, servers: over(80) }, echo: { listen: `${VIP}:7`, servers: over(7) } },
    more: '[passthrough]\nconnection_tracker_capacity = 10000',
  }),
);

/** The script that each server gets, to be run there as its administrator would. */
const scripts = SERVERS.map((address, index) => {
  const script = join(lab.directory, `server${index + 1}.sh`);
  writeFileSync(script, balancer.sh(LB4, 'rules', '--dsr', '--for', address, '--dialect', 'tc', `--config=${file}`));
  return script;
});
const rules = (index: number, action: string) => servers[index].sh('sh', scripts[index], action);
/** On the second server once: each script starts dozens of programs, which an emulated machine is slow at. */
const everywhere = (action: string) => [0, 0, 1].forEach((index) => rules(index, action));

const state = (server: Namespace) =>
  server.sh('sh', '-c', 'tc qdisc show dev eth0; tc filter show dev eth0; nft list ruleset; ip addr show lo');
const before = servers.map(state);
everywhere('install');
rules(0, 'status');
for (const [i, server] of servers.entries()) notStrictEqual(state(server), before[i]);
ok(servers[0]?.sh('tc', 'filter', 'show', 'dev', 'eth0', 'parent', '10:').includes('nat egress'));

const running = balancer.start([LB4, '--dsr', `--config=${file}`]);
await running.line(/"msg":"ready"/);
const lb4 = new Balancer(balancer, running, `http://127.0.0.1:${STATS_PORT}/stats`);
// Health checks run through the same servers, and their answers must keep the server's own address.
await lb4.health(Object.fromEntries([...over(80), ...over(7)].map((server) => [server, true])));

const returns = await Capture.start(balancer, 'eth0', 'tcp and dst host 10.81.0.2');
const requests = await Capture.start(balancer, 'eth0', 'tcp and src host 10.81.0.2', 96);
const { stdout } = await client.run('sh', '-c', `curl -sS --max-time 200 http://${VIP}/content/${SIZE} | sha256sum`);
strictEqual(stdout.split(' ')[0], contentHash(SIZE));
const echo = client.program('client', 'echo', '20', '5000', `${VIP}:7`);
const report = JSON.parse(await echo.line(/^\{/)) as EchoReport;
deepStrictEqual({ ok: report.ok, errors: report.errors }, { ok: 20, errors: [] });
deepStrictEqual(Object.keys(report.servers).sort(), ['server1', 'server2']);
ok(
  report.peers.every((peer) => /^(::ffff:)?10\.81\.0\.2:/.test(peer)),
  'servers see the clients themselves',
);
ok((await requests.stop()).length > 40);
deepStrictEqual(await returns.stop(), [], 'no answer passed the balancer');
ok((await lb4.stats()).total_connections >= 21);

// Without the scripts servers answer as themselves, and nothing connects: it was tc that did it.
everywhere('remove');
deepStrictEqual(servers.map(state), before);
notStrictEqual((await client.run('curl', '-sS', '--max-time', '2', `http://${VIP}/`)).code, 0);

deepStrictEqual(await lb4.stop(), { code: 0, signal: null });
process.stdout.write('servers answered the client themselves\n');
