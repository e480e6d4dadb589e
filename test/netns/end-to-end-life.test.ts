/** What lives on while lb4, its file or a server changes, and how connections end: with every driver. */
import { beforeAll, describe, expect, test } from 'vitest';
import { answeredBy, answers, countBy } from '../lab/answers.ts';
import { SLOW, startBalancer, UNTALKATIVE } from '../lab/balancer.ts';
import { contentHash } from '../lab/content.ts';
import { endToEnd, passthroughBy, wired } from '../lab/end-to-end.ts';
import { openConnections, startAnswers } from '../lab/flood.ts';
import { holdConnections, othersLiveOn, report } from '../lab/hold.ts';
import { HASTY, Live, PATIENT } from '../lab/live.ts';
import { ECHO, HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { ONCE, type Pair, Tracked } from '../lab/tracked.ts';
import { PATIENCE, waitUntil, within } from '../lab/wait.ts';

const HELD = 50;
const TRANSFERS = 4;
const SIZE = 1_000_000;
/** So long transfers take, whatever the machine can. */
const SECONDS = 5;
/** Bytes, of which a server gives 16 KB every 10 ms. */
const DRIPPED = 5_000_000;
/** Connections that a small table has room for, and the port of a server without a kernel. */
const FULL = 1000;
const ANSWERED = 8080;

endToEnd((driver) => {
  test('killed twice and started at once, then taken over, amid hashed transfers: nobody notices', async () => {
    await using live = await Live.start('passthrough', { checks: SLOW, more: passthroughBy(driver) });
    wired(driver, live.lab);
    const { client, balancer: host } = live.lab;
    const hold = await holdConnections(client, HELD, `${live.vip}:${ECHO}`);
    const curl = `curl -sS --limit-rate ${SIZE / SECONDS} http://${live.vip}/content/${SIZE}`;
    const transfers = Array.from({ length: TRANSFERS }, () => client.runFor(2 * PATIENCE, 'sh', '-c', `${curl} | sha256sum`));
    await live.balancer.settled('everything to be under way', (stats) => stats.total_connections === HELD + TRANSFERS);
    const { rules, reserved, kept } = traces(host);
    for (let kill = 0; kill < 2; kill++) {
      await live.balancer.stop('SIGKILL');
      await live.launch();
      expect(JSON.parse(await live.balancer.running.line(/an lb4 that died go on/))).toMatchObject({ level: 'info' });
      expect([kill, await othersLiveOn(hold)]).toEqual([kill, []]);
    }
    const { running: last } = live.balancer;
    await live.launch('--takeover');
    expect(await within(last.exited, PATIENCE, 'the end of the one before')).toEqual({ code: 0, signal: null });
    expect(await othersLiveOn(hold)).toEqual([]);
    expect(traces(host)).toMatchObject({ rules, reserved, kept });
    for (const { stdout, stderr } of await Promise.all(transfers)) expect([stdout.split(' ')[0], stderr]).toEqual([contentHash(SIZE), '']);
    // What the books say is what there is, as if it had been one process.
    expect((await live.balancer.stats()).total_connections).toBe(HELD + TRANSFERS);
    expect((await report(hold)).filter(({ ended }) => ended !== undefined)).toEqual([]);
    hold.end();
    await hold.exited;
    expect(await live.balancer.stop()).toEqual({ code: 0, signal: null });
    expect(traces(host)).toEqual(NOTHING);
  });

  test('a removed server drains: its connections go on, new ones go elsewhere, the end of the drain ends them', async () => {
    const more = passthroughBy(driver);
    await using live = await Live.start('passthrough', { backend: PATIENT, more });
    wired(driver, live.lab);
    const { client } = live.lab;
    const held = await holdConnections(client, 20, `${live.vip}:${ECHO}`);
    expect(new Set((await report(held)).map(({ server }) => server))).toEqual(new Set(['server1', 'server2']));
    await live.reload({ servers: [1], backend: PATIENT, more });
    expect(await othersLiveOn(held)).toEqual([]);
    expect(await answering(live.lab as Topology)).toEqual(['server2']);
    // Who leaves has as long as stood in the file while he was there.
    await live.reload({ backend: HASTY, more });
    expect(await othersLiveOn(held)).toEqual([]);
    await live.reload({ servers: [1], backend: HASTY, more });
    await waitUntil(async () => (await report(held)).every(({ server, ended }) => server === 'server2' || ended !== undefined), {
      what: 'the connections of the removed server to end',
      every: 100,
    });
    expect(await othersLiveOn(held, 'server1')).toEqual([]);
    await live.reload({ backend: HASTY, more });
    await live.balancer.health({ [`${live.addresses[0]}:${HTTP}`]: true });
    expect(await answering(live.lab as Topology)).toEqual(['server1', 'server2']);
  });

  test('a server killed mid-transfer: its clients are told, others live on, others take over, it comes back', async () => {
    await using lab = wired(driver, new Topology());
    const balancer = await lab.serve({ more: passthroughBy(driver) });
    const held = await holdConnections(lab.client, 30, `${VIP}:${ECHO}`);
    const told = '%{http_code} %{size_download} %header{x-server}\n';
    const drip = ['curl', '-sS', '--max-time', '80', '-o', '/dev/null', '-w', told, `http://${VIP}/drip/${DRIPPED}`];
    const drips = Array.from({ length: 12 }, () => lab.client.start(drip));
    // In full flow, and far from their end.
    await balancer.settled('12 downloads', ({ frontends: { http } }) => http?.current_connections === 12 && http.bytes_rx > 600_000);
    await lab.killBackend(0);
    const results = await Promise.all(drips.map(async (one) => ({ exit: await one.exited, said: one.lines.join(' ') })));
    for (const { exit, said } of results) {
      // 18, 56: the transfer ended early, and curl knew at once.
      if (said.includes('server1')) expect([18, 56]).toContain(exit.code);
      // 52: nothing had come of its answer yet, so nobody can say whose it was.
      else if (/^(curl: .* )?000 0 $/.test(said)) expect([52, 56]).toContain(exit.code);
      else expect([exit.code, said]).toEqual([0, expect.stringMatching(new RegExp(`^200 ${DRIPPED} server[23]$`))]);
    }
    expect(results.some(({ exit }) => exit.code === 0)).toBe(true);
    await balancer.health({ [`${serverAddress(0)}:${ECHO}`]: false, [`${serverAddress(0)}:${HTTP}`]: false });
    expect(await othersLiveOn(held, 'server1')).toEqual([]);
    await answeredBy(lab.client, VIP, 'server2', 'server3');
    await lab.startBackend(0);
    await balancer.health({ [`${serverAddress(0)}:${HTTP}`]: true });
    await answeredBy(lab.client, VIP, 'server1', 'server2', 'server3');
    expect(await othersLiveOn(held, 'server1')).toEqual([]);
    expect((await balancer.stop()).code).toBe(0);
  });

  test('a full table: one more is refused and counted, and all that are in it are answered', async () => {
    await using lab = wired(driver, new Topology({ servers: 1 }));
    startAnswers(lab.servers[0], ANSWERED);
    const frontend = { listen: `${VIP}:${ANSWERED}`, servers: [`${serverAddress(0)}:${ANSWERED}`], backend: UNTALKATIVE };
    const more = passthroughBy(driver, `connection_tracker_capacity = ${FULL}`);
    const balancer = await startBalancer(lab.balancer, { frontends: { full: frontend }, more });
    await balancer.settled('it to be full', async ({ current_connections: current }) => {
      if (current < FULL) await openConnections(lab, ANSWERED, FULL);
      return current === FULL;
    });
    const { verdicts } = (await balancer.stats()).lb4;
    expect((await lab.client.run('curl', '-sS', '--max-time', '60', `http://${VIP}:${ANSWERED}/`)).code).toBe(7);
    expect(await balancer.verdict('resetTableFull')).toBeGreaterThan(verdicts['resetTableFull'] ?? 0);
    await openConnections(lab, ANSWERED, FULL);
    expect(await balancer.verdict('opened')).toBe(verdicts['opened']);
    expect((await balancer.stop()).code).toBe(0);
  });

  describe('connections end, and their ports open again', () => {
    const timeouts = { syn: 2, established: 7_440, fin: 2, time_wait: 1, closed: 1 };
    let tracked: Tracked;

    beforeAll(async () => {
      tracked = await Tracked.start('passthrough', timeouts, { pairs: 5, passthrough: driver.lines });
      wired(driver, tracked.lab);
      return () => tracked[Symbol.asyncDispose]();
    });

    function way(name: string, body: (pair: Pair) => Promise<void>): void {
      test.concurrent(name, async () => {
        const pair = await tracked.connected();
        await body(pair);
        await pair.forgotten();
      });
    }

    async function bothClose({ client, server }: Pair): Promise<void> {
      await client.close();
      expect(await server.rest()).toBe('');
      await server.close();
    }

    way('the client closes first', bothClose);

    way('the server closes first, and the same port opens again while it is in TIME-WAIT', async (pair) => {
      await pair.server.close();
      expect(await pair.client.rest()).toBe('');
      await pair.client.close();
      await pair.over('client');
      await pair.open();
      await bothClose(pair);
    });

    way('the client resets, and the same port opens again', async (pair) => {
      await pair.client.reset();
      await expect(pair.server.receive(1)).rejects.toThrow('ECONNRESET');
      await pair.open();
      await bothClose(pair);
    });

    way('the server resets', async ({ client, server }) => {
      await server.reset();
      await expect(client.receive(1)).rejects.toThrow('ECONNRESET');
    });

    test.concurrent('SYN and SYN+ACK are sent again when they are lost', async () => {
      const pair = await tracked.pair();
      const losses = [pair.lose('toServer', `tcp flags & syn == syn ${ONCE}`), pair.lose('toClient', `tcp flags & syn == syn ${ONCE}`)];
      await pair.open();
      for (const loss of losses) loss.end();
      await bothClose(pair);
      await pair.forgotten();
    });
  });
});

/** Which servers answer forty requests. */
async function answering({ client }: Topology): Promise<string[]> {
  return Object.keys(countBy(await answers(client, VIP, 40))).sort();
}
