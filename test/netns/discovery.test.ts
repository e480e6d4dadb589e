/** Servers by name, by service and by program, with a real nameserver: they come and go while connections go on, and no failure takes one away. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ask } from '../lab/ask.ts';
import { QUICK, STATS_PORT } from '../lab/balancer.ts';
import { holdConnections, othersLiveOn } from '../lab/hold.ts';
import type { Namespace } from '../lab/lab.ts';
import { Live } from '../lab/live.ts';
import type { Running } from '../lab/processes.ts';
import { serverAddress } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { waitUntil } from '../lab/wait.ts';

const [ONE, TWO] = [serverAddress(0), serverAddress(1)];
const DNS = ['dnsmasq', '--no-daemon', '--conf-file=/dev/null', '--no-resolv', '--no-hosts', '--user=root', '--group=root', '--pid-file='];

/** A nameserver that knows app.test and its service at these addresses, for a second each; a loopback address is none of any server's. */
async function nameserver(host: Namespace, addresses: readonly string[]): Promise<Running> {
  const records = addresses.flatMap((ip, i) => [
    `--host-record=app.test,${ip},1`,
    `--host-record=app${i}.test,${ip},1`,
    `--srv-host=_http._tcp.app.test,app${i}.test,80,${i},5`,
  ]);
  const running = host.start([...DNS, '--port=5353', '--host-record=app.test,127.0.0.1,1', ...records]);
  await running.line(/cleared cache/);
  return running;
}

const text = (vip: string, list: string) => `
[frontends.name]
listen_addr = "${vip}:8080"
backend = "name"
[backends.name]
balance = "roundrobin"
${QUICK}
[backends.name.servers.app]
addr = "app.test:80"
weight = 3

[frontends.service]
listen_addr = "${vip}:8081"
backend = "service"
[backends.service]
${QUICK}
[backends.service.servers.app]
srv = "_http._tcp.app.test"

[frontends.program]
listen_addr = "${vip}:7"
backend = "program"
[backends.program]
${QUICK}
[backends.program.servers.list]
exec = ["cat", "${list}"]
exec_interval = 1

[discovery]
nameservers = ["127.0.0.1:5353"]
[stats]
address = "0.0.0.0"
port = ${STATS_PORT}
[passthrough]
ring_slots = 256
`;

/** Who answers at a port, each asked for until nobody else has for four times in turn. */
async function answering(client: Namespace, place: string): Promise<string[]> {
  const seen = new Set<string>();
  for (let same = 0; same < 4; ) {
    const before = seen.size;
    seen.add((await ask(client, `http://${place}/name`)).trim());
    same = seen.size === before ? same + 1 : 0;
  }
  return [...seen].toSorted();
}

test.each(['passthrough', 'proxy'] as const)('%s', async (mode) => {
  await using live = await Live.start(mode);
  const { client, balancer: host } = live.lab;
  await live.balancer.stop();
  const list = join(live.lab.directory, 'list');
  writeFileSync(list, `${ONE}:7\n`);
  writeFileSync(live.file, text(live.vip, list));
  let dns = await nameserver(host, [ONE]);
  await live.launch();
  const up = (...servers: readonly string[]) =>
    live.balancer.settled(`${servers.join(' and ')} to be up`, ({ backends }) => {
      const known = Object.entries(backends).flatMap(([backend, { servers: all }]) =>
        Object.keys(all)
          .filter((one) => all[one])
          .map((one) => `${backend} ${one}`),
      );
      return servers.every((server) => known.includes(server));
    });
  await up(`name ${ONE}:80`, `service ${ONE}:80`, `program ${ONE}:7`);
  const at = (port: number) => answering(client, `${live.vip}:${port}`);
  const said = (pattern: RegExp) => live.balancer.running.nextLine(pattern);
  const [first] = await at(8080);
  expect(await at(8081)).toEqual([first]);
  const held = await holdConnections(client, 4, `${live.vip}:7`);
  // What the nameserver says of this host itself is no server in any mode.
  await live.balancer.running.line(/left out: name\/app: 127\.0\.0\.1:80 is (?:an address of this host|a loopback address)/);

  // Another address: added in each backend, by its TTL.
  const added = Promise.all([said(/name \/ app@10.*server added/), said(/service \/ app@10.*server added/)]);
  writeFileSync(list, `${TWO}:7 weight=2\n`);
  const listed = said(/program \/ list@.*not found any more: it drains/);
  await dns.stop();
  dns = await nameserver(host, [ONE, TWO]);
  await Promise.all([added, listed]);
  await up(`name ${ONE}:80`, `name ${TWO}:80`);
  // From a change of health to the next plan it takes a moment.
  const answerBoth = async () => {
    const all = await at(8080);
    return all.length === 2 && all;
  };
  const both = await waitUntil(answerBoth, { what: 'both servers to answer' });
  // The second one's priority makes it a backup of the service.
  expect(await at(8081)).toEqual([first]);
  // Those at the server that the program has no more go on.
  expect(await othersLiveOn(held)).toEqual([]);
  expect(await live.metric('lb4_server_weight', `backend="name",server="app@${TWO}:80"`)).toBe(3);
  expect(await live.metric('lb4_server_weight', `backend="program",server="list@${TWO}:7"`)).toBe(2);

  // One address less: it drains.
  const gone = said(/name \/ app@.*not found any more: it drains/);
  await dns.stop();
  dns = await nameserver(host, [TWO]);
  await gone;
  expect(await at(8080)).toEqual(both.filter((name) => name !== first));

  // Nobody answers: all stays, and is told once.
  const failing = said(/app\.test:80.*cannot be found: the last that were stay/);
  await dns.stop();
  await failing;
  expect(await at(8080)).toEqual(both.filter((name) => name !== first));
  writeFileSync(list, 'nonsense\n');
  await said(/cat .*line 1: .*cannot be found: the last that were stay/);
  // Each is asked for in its own time.
  await waitUntil(async () => (await live.metric('lb4_discovery_failing')) === 3, { what: 'all three to fail', every: 50 });
  expect(await othersLiveOn(held)).toEqual([]);

  // After a kill, too, with nobody to ask; in proxy mode also after a restart.
  for (const signal of mode === 'passthrough' ? (['SIGKILL'] as const) : (['SIGKILL', 'SIGQUIT'] as const)) {
    await live.balancer.stop(signal);
    await live.launch();
    expect(await at(8080)).toEqual(both.filter((name) => name !== first));
  }
  if (mode === 'passthrough') expect(await othersLiveOn(held)).toEqual([]);
  held.end();
  await held.exited;
  expect((await live.balancer.stop()).code).toBe(0);
  expect(traces(host)).toEqual(NOTHING);
  // A stop leaves nothing: the next one has to ask.
  if (mode === 'passthrough') return;
  const fresh = live.start();
  await fresh.line(/app\.test:80.*cannot be found: it has none until they are/);
  await fresh.line(/"msg":"ready"/);
  expect((await fresh.stop()).code).toBe(0);
});
