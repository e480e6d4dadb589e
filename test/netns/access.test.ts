/** Who may connect, and how often, in every mode: lists in files of 100,000 prefixes, limits a source, what is open meanwhile. */
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { RESET } from '../lab/answers.ts';
import { LB4, startBalancer } from '../lab/balancer.ts';
import { CLIENT as DSR_CLIENT } from '../lab/dsr-topology.ts';
import { holdConnections, othersLiveOn } from '../lab/hold.ts';
import { Live, MODES } from '../lab/live.ts';
import { clientAddress, ECHO, Topology, VIP } from '../lab/topology.ts';
import { waitUntil } from '../lab/wait.ts';

/** Prefixes of other people: two in a /16 that are not one. */
const MANY = Array.from({ length: 100_000 }, (_, i) => `${20 + (i >> 15)}.${(i >> 7) & 255}.${(i & 127) * 2}.0/25`).join('\n');

/** Puts a list in its file's place, and waits until it is in force. */
async function list(live: Live, path: string, text: string): Promise<void> {
  const done = live.balancer.running.nextLine(/"msg":"configuration reloaded"/);
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
  await done;
}

/** What curl says of so many requests, each over a connection of its own, one after the other. */
async function codes(live: Live, requests = 1): Promise<number[]> {
  const options = ['-s', '--max-time', '30', '-o/dev/null', '-H', 'Connection: close', '-w', '%{exitcode}\\n'];
  const { stdout } = await live.lab.client.run('curl', ...options, `http://${live.vip}/?[1-${requests}]`);
  return stdout.trim().split('\n').map(Number);
}

const denied = (live: Live, frontend: string, rule: string, metric = 'denied') =>
  live.metric(`lb4_frontend_${metric}_total`, `frontend="${frontend}",protocol="tcp",rule="${rule}"`);

/** A limit is one of all workers, not of each. */
const WORKERS = '[passthrough]\nworkers = 2\n';

test.each(MODES)('%s: lists and limits keep new connections out, and those that are open go on', async (mode) => {
  await using live = await Live.start(mode, { more: WORKERS });
  const socket = join(live.lab.directory, 'control.sock');
  const more = `[control]\npath = "${socket}"\n${WORKERS}`;
  const client = mode === 'dsr' ? DSR_CLIENT : clientAddress(0);
  const path = join(live.lab.directory, 'block');
  writeFileSync(path, '# nobody here\n198.51.100.0/24 ; somebody else\n2001:db8::/32\n');
  const lines = `deny = ["203.0.113.7", "@${path}"]\ndeny_action = "reset"`;
  await live.reload({ more, frontend: lines });
  const held = await holdConnections(live.lab.client, 5, `${live.vip}:${ECHO}`);

  // While 100,000 prefixes come, nobody waits and nothing is lost.
  const asking = codes(live, 200);
  await list(live, path, `${MANY}\n192.0.2.1\n`);
  expect(await asking).toEqual(Array(200).fill(0));
  if (mode !== 'proxy') expect((await live.balancer.stats()).lb4.frames.dropped).toBe(0);

  await list(live, path, `${MANY}\n${client}\n`);
  expect(RESET).toContain((await codes(live))[0]);
  expect(await othersLiveOn(held)).toEqual([]);
  expect(await denied(live, 'http', `deny @${path}`)).toBeGreaterThan(0);
  expect(await denied(live, 'http', 'deny')).toBe(0);
  const said = async (...words: string[]) => (await live.lab.balancer.run(LB4, ...words, '--control', socket)).stdout;
  expect(await said('list')).toMatch(/open .* refused by deny @/);

  expect(await said('trace', `${client}:4711`, 'http')).toContain(`deny @${path} of http keeps the client out`);

  await live.reload({ more, frontend: `${lines}\ndry_run = true` });
  expect(await codes(live)).toEqual([0]);
  expect(await denied(live, 'http', `deny @${path}`, 'would_deny')).toBeGreaterThan(0);
  expect(await said('trace', `${client}:4711`, 'http')).toMatch(
    /server\d, [^]*deny @.* of http would keep the client out, but for dry_run/,
  );

  await live.reload({ more, frontend: 'allow = ["192.0.2.0/24"]\ndeny_action = "reset"' });
  expect(RESET).toContain((await codes(live))[0]);
  expect(await denied(live, 'http', 'allow')).toBeGreaterThan(0);

  // Those that were there before count: the sweep comes by within a second.
  await live.reload({ more, frontend: 'source_maxconn = 5\ndeny_action = "reset"' });
  const echo = async (): Promise<boolean> => {
    const command = `exec 3<>/dev/tcp/${live.vip}/${ECHO} && read -t 20 -u 3 line`;
    return (await live.lab.client.run('timeout', '30', 'bash', '-c', command)).code === 0;
  };
  await waitUntil(async () => !(await echo()), { what: 'the limit of a source to hold' });
  expect(await denied(live, 'echo', 'source_maxconn')).toBeGreaterThan(0);
  expect(await othersLiveOn(held)).toEqual([]);
  if (mode !== 'proxy') {
    // They count in another process from its start on, whether this one was killed or hands over.
    await live.balancer.stop('SIGKILL');
    for (const flags of [[], ['--takeover']]) {
      await live.launch(...flags);
      expect([flags, await echo(), await othersLiveOn(held)]).toEqual([flags, false, []]);
    }
  }
  held.end();
  await waitUntil(echo, { what: 'a place for another connection of the source' });

  await live.reload({ more, frontend: 'source_rate = 0.001\ndeny_action = "reset"' });
  const [first, second] = await codes(live, 2);
  expect(first).toBe(0);
  expect(RESET).toContain(second);
  expect(await denied(live, 'http', 'source_rate')).toBeGreaterThan(0);
});

test('respect_firewall: who is in a set of nft’s is denied by every frontend, from the moment he is put there; a set that goes keeps nobody in', async () => {
  await using lab = new Topology({ clients: 2, servers: 1 });
  const { balancer: host } = lab;
  const settings = lab.settings({ more: '[passthrough]\nrespect_firewall = ["inet filter blocked"]' });
  for (const frontend of Object.values(settings.frontends)) Object.assign(frontend, { frontend: 'deny_action = "reset"' });
  const make = () => host.sh('nft', 'add table inet filter; add set inet filter blocked { type ipv4_addr; flags interval, timeout; }');
  await lab.startBackends();
  // Before anybody has made it.
  const balancer = await startBalancer(host, settings);
  const told = (text: string) => balancer.running.lines.filter((line) => line.includes(text));
  expect(told('there is no such set')).toHaveLength(1);
  balancer.running.signal('SIGHUP');
  await balancer.running.line(/reloaded/);
  make();
  host.sh('nft', 'add element inet filter blocked { 198.51.100.0/24, 203.0.113.5-203.0.113.9 timeout 1h }');
  await balancer.running.line(/respect_firewall can be read now/);
  const asks = async (client: number) => {
    return (await lab.clients[client].run('curl', '-s', '--max-time', '60', '-o/dev/null', `http://${VIP}/`)).code;
  };
  expect([await asks(0), await asks(1)]).toEqual([0, 0]);
  const held = await holdConnections(lab.client, 2, `${VIP}:${ECHO}`);
  host.sh('nft', `add element inet filter blocked { ${clientAddress(0)} }`);
  await waitUntil(async () => RESET.includes(await asks(0)), { what: 'the client in the set to be refused' });
  expect(await asks(1)).toBe(0);
  expect(await othersLiveOn(held)).toEqual([]);
  held.end();
  expect(await balancer.metric('lb4_frontend_denied_total', 'rule="respect_firewall inet filter blocked"')).toBeGreaterThan(0);

  host.sh('nft', 'delete table inet filter');
  await waitUntil(() => told('cannot be read: who was in it is denied as before').length === 2, { what: 'the loss of the set to be told' });
  expect(RESET).toContain(await asks(0));
  make();
  await waitUntil(() => told('can be read now').length === 2, { what: 'the set to be read again' });
  await waitUntil(async () => (await asks(0)) === 0, { what: 'the client that is not in the set any more to get in' });
  expect(told('cannot be read')).toHaveLength(2);
  expect(await balancer.stop()).toEqual({ code: 0, signal: null });
});
