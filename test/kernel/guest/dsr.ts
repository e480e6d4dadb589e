/**
 * In the guest: `lb4 --dsr` end to end. The first server rewrites its answers by the tc dialect, which needs act_nat; the second one by nft, and unwraps what
 * comes inside of other packets, as the kernel itself does: IP in IP (tunl0), and GUE (fou).
 */
import { deepStrictEqual, notStrictEqual, ok, strictEqual } from 'node:assert';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Balancer, configuration, LB4, QUICK, STATS_PORT, writeConfiguration } from '../../lab/balancer.ts';
import { Capture } from '../../lab/capture.ts';
import type { EchoReport } from '../../lab/client.ts';
import { contentHash } from '../../lab/content.ts';
import { CLIENT, DsrTopology, SERVERS, VIP } from '../../lab/dsr-topology.ts';
import { GUE_PORT } from '../../lab/gue.ts';
import type { Namespace } from '../../lab/lab.ts';
import { hashOfUpload } from '../../lab/upload.ts';

/** Bytes: of an answer that is rewritten, and of what goes to a tunnel and comes from behind it. */
const [SIZE, WRAPPED_SIZE] = [2_000_000, 500_000];
/** Those of the frontends whose packets go to the second server inside of others; and one of that server's that nobody may call by a tunnel. */
const [IPIP, GUE, OTHER] = ['10.82.0.20', '10.82.0.21', '10.99.0.1'];

await using lab = new DsrTopology();
const { client, balancer, servers } = lab;
for (const [index] of servers.entries()) await lab.startBackend(index);
for (const address of [IPIP, GUE]) balancer.ip('address', 'add', `${address}/32`, 'dev', 'eth0');
servers[1].ip('address', 'add', `${OTHER}/32`, 'dev', 'eth0');

const over = (number: number) => SERVERS.map((address) => `${address}:${number}`);
const [, WRAPPED] = over(80);
const wrapped = (vip: string, keys: string) => ({ listen: `${vip}:80`, servers: [WRAPPED], backend: `${QUICK}\n${keys}` });
const file = writeConfiguration(
  balancer,
  configuration({
    frontends: {
      http: { listen: `${VIP}:80`, servers: over(80) },
      echo: { listen: `${VIP}:7`, servers: over(7) },
      ipip: wrapped(IPIP, 'dsr = "ipip"\nhealth_check = ["ipip", "http"]'),
      gue: wrapped(GUE, 'dsr = "gue"\nhealth_check = ["gue", "http"]'),
    },
    more: '[passthrough]\nconnection_tracker_capacity = 10000',
  }),
);

/** The script that each server gets, to be run there as its administrator would. */
const scripts = SERVERS.map((address, index) => {
  const script = join(lab.directory, `server${index + 1}.sh`);
  const dialect = index === 0 ? 'tc' : 'fou';
  writeFileSync(script, balancer.sh(LB4, 'rules', '--dsr', '--for', address, '--dialect', dialect, `--config=${file}`));
  return script;
});
const rules = (index: number, action: string) => servers[index].sh('sh', scripts[index], action);

const STATE =
  'tc qdisc show dev eth0; tc filter show dev eth0; nft list ruleset; ip addr show lo; ip -o link show up; ip fou show 2>/dev/null || :';
const state = (server: Namespace) => server.sh('sh', '-c', STATE);
const before = servers.map(state);
// Twice once: each script starts dozens of programs, which an emulated machine is slow at.
for (const index of [0, 0, 1]) rules(index, 'install');
rules(0, 'status');
for (const [i, server] of servers.entries()) notStrictEqual(state(server), before[i]);
ok(servers[0]?.sh('tc', 'filter', 'show', 'dev', 'eth0', 'parent', '10:').includes('nat egress'));

const running = balancer.start([LB4, '--dsr', `--config=${file}`]);
await running.line(/"msg":"ready"/);
const lb4 = new Balancer(balancer, running, `http://127.0.0.1:${STATS_PORT}/stats`);
// Health checks run through the same servers, and their answers must keep the server's own address.
await lb4.health(Object.fromEntries([...over(80), ...over(7)].map((server) => [server, true])));

const downloaded = async (vip: string, size: number) => {
  const { stdout, stderr } = await client.run('sh', '-c', `curl -sS --max-time 200 http://${vip}/content/${size} | sha256sum`);
  strictEqual(stdout.split(' ')[0], contentHash(size), `${vip}: ${stderr}`);
};

const returns = await Capture.start(balancer, 'eth0', 'tcp and dst host 10.81.0.2');
const requests = await Capture.start(balancer, 'eth0', 'tcp and src host 10.81.0.2', 96);
await downloaded(VIP, SIZE);
const echo = client.program('client', 'echo', '20', '5000', `${VIP}:7`);
const report = JSON.parse(await echo.line(/^\{/)) as EchoReport;
deepStrictEqual({ ok: report.ok, errors: report.errors }, { ok: 20, errors: [] });
deepStrictEqual(Object.keys(report.servers).sort(), ['server1', 'server2']);
ok(
  report.peers.every((peer) => /^(::ffff:)?10\.81\.0\.2:/.test(peer)),
  'servers see the clients themselves',
);

// Wrapped: down, and up in segments that fit with all that is around them.
for (const vip of [IPIP, GUE]) {
  await downloaded(vip, WRAPPED_SIZE);
  strictEqual(await hashOfUpload(client, `http://${vip}/`, WRAPPED_SIZE), contentHash(WRAPPED_SIZE));
}
strictEqual(await lb4.verdict('tooBig'), 0);
ok((await requests.stop()).length > 40);
deepStrictEqual(await returns.stop(), [], 'no answer passed the balancer');
ok((await lb4.stats()).total_connections >= 25);

// Whoever else sends tunnels there reaches no other address of the server by them.
client.ip('tunnel', 'add', 'tunnel', 'mode', 'ipip', 'remote', SERVERS[1], 'local', CLIENT);
client.ip('link', 'set', 'tunnel', 'up');
client.ip('route', 'add', OTHER, 'dev', 'tunnel');
notStrictEqual((await client.run('ping', '-c', '1', '-W', '1', OTHER)).code, 0);
const told = rules(1, 'status').split('\n');
ok(told.includes('counter dropped_destination_packets_of_kernel_tunnels 1'), told.join('\n'));
deepStrictEqual(
  told.filter((line) => !/^(present|counter) |^$/.test(line)),
  [],
);
process.stdout.write('tunl0 unwrapped for the frontends alone\n');

// A server that unwraps no more is noticed by the checks that go by its tunnels, and a dead service by the others of their lists.
const areUp = (up: boolean) =>
  lb4.settled(`those behind tunnels to be ${up ? 'up' : 'down'}`, ({ backends }) =>
    ['ipip-out', 'gue-out'].every((name) => backends[name].servers[WRAPPED] === up),
  );
const said = Promise.all([/unwraps nothing at UDP port/, /no answer by its tunnel \(IP in IP\)/].map((line) => running.nextLine(line)));
servers[1].ip('fou', 'del', 'port', `${GUE_PORT}`);
servers[1].ip('link', 'set', 'tunl0', 'down');
ok((await said).every((line) => line.includes(WRAPPED)));
strictEqual((await areUp(false)).backends['http-out'].servers[WRAPPED], true);
servers[1].ip('fou', 'add', 'port', `${GUE_PORT}`, 'gue');
servers[1].ip('link', 'set', 'tunl0', 'up');
await areUp(true);
await lab.killBackend(1);
await areUp(false);
process.stdout.write('tunl0 and fou were checked by their tunnels\n');

// Without the scripts servers answer as themselves, and nothing connects: it was tc that did it.
for (const index of servers.keys()) rules(index, 'remove');
deepStrictEqual(servers.map(state), before);
notStrictEqual((await client.run('curl', '-sS', '--max-time', '2', `http://${VIP}/`)).code, 0);

deepStrictEqual(await lb4.stop(), { code: 0, signal: null });
process.stdout.write('servers answered the client themselves\n');
