/** A backend's source addresses, with real sockets: servers see them, answers come back (the kernel, whose addresses they are, resets none), and old connections outlive a change. */
import { expect, test } from 'vitest';
import { CLIENT_PORTS } from '../../src/layout/ports.ts';
import { SLOW } from '../lab/balancer.ts';
import { holdConnections, othersLiveOn, report } from '../lab/hold.ts';
import { Live } from '../lab/live.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { waitUntil } from '../lab/wait.ts';

const [A, B, C] = ['10.72.0.1', '10.72.0.5', '10.72.0.6'] as const;
/** An address is in use until its last port has rested. */
const more = '[passthrough.timeouts]\ntime_wait = 1\nfin = 1\nclosed = 1';
const named = (...addresses: string[]) => ({
  backend: `source_addrs = [${addresses.map((one) => `"${one}"`).join()}]`,
  more,
  checks: SLOW,
});

test('connections leave from each in turn; a reload and a kill keep those of an address that is taken out', async () => {
  await using live = await Live.start('passthrough', { more, checks: SLOW });
  const { client, balancer: host, servers } = live.lab;
  for (const address of [B, C]) host.ip('addr', 'add', `${address}/24`, 'dev', 'back');
  /** From which addresses servers have clients' connections to their echo port, and how many: none of lb4's own checks. */
  const seen = async (): Promise<Record<string, number>> => {
    const all = await Promise.all(servers.map((server) => server.run('ss', '-Htn', 'state', 'established', 'sport = :7')));
    const counts: Record<string, number> = {};
    for (const [, peer = '', port] of all.flatMap(({ stdout }) => [...stdout.matchAll(/([\d.]+):(\d+)\s*$/gm)]))
      if (Number(port) >= CLIENT_PORTS.first) counts[peer] = (counts[peer] ?? 0) + 1;
    return counts;
  };
  const rules = () => traces(host).rules;

  const old = await holdConnections(client, 4, `${live.vip}:7`);
  expect(await seen()).toEqual({ '10.71.0.1': 4 });
  await live.reload(named(A, B));
  const held = await holdConnections(client, 40, `${live.vip}:7`);
  const counts = await seen();
  // Two servers: at each of them the two addresses take turns.
  expect(Object.keys(counts).toSorted()).toEqual(['10.71.0.1', A, B].toSorted());
  for (const address of [A, B]) expect(counts[address]).toBeGreaterThanOrEqual(19);
  expect(await othersLiveOn(old)).toEqual([]);

  await live.reload(named(B, C));
  const fresh = await holdConnections(client, 10, `${live.vip}:7`);
  expect(await seen()).toMatchObject({ [A]: counts[A], [C]: 10 });
  for (const connections of [old, held, fresh]) expect(await othersLiveOn(connections)).toEqual([]);
  expect(rules().join('\n')).toContain(`-d ${A}/32`);

  await live.balancer.stop('SIGKILL');
  await live.launch();
  for (const connections of [old, held, fresh]) expect(await othersLiveOn(connections)).toEqual([]);
  expect(await seen()).toMatchObject({ [A]: counts[A], [C]: 10 });
  expect((await report(held)).filter(({ ended }) => ended !== undefined)).toEqual([]);

  // The last one gone, so is the address.
  held.end();
  await held.exited;
  await waitUntil(async () => !rules().join('\n').includes(`-d ${A}/32`), { what: `the rules of ${A} to go`, every: 100 });
  expect(await othersLiveOn(fresh)).toEqual([]);

  // One that is none of this host's is refused with its line.
  const complaint = live.balancer.running.nextLine(/10\.72\.0\.99 is not an address of this host/);
  live.replace(live.text(named(B, '10.72.0.99')));
  expect(await complaint).toMatch(/live\.toml:\d+:\d+: backends\.http-out\.source_addrs\.1: /);
  expect(await othersLiveOn(fresh)).toEqual([]);
  expect((await live.balancer.stop()).code).toBe(0);
  expect(traces(host)).toEqual(NOTHING);
});
