/** Who gets a connection, in every mode: schedulers and weights, limits, backups, slow starts. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { answeredBy, answers, type Counts, countBy } from '../lab/answers.ts';
import { holdConnections, othersLiveOn, report } from '../lab/hold.ts';
import { Live, MODES } from '../lab/live.ts';
import type { Running } from '../lab/processes.ts';
import { ECHO, HTTP } from '../lab/topology.ts';
import { pause, waitUntil } from '../lab/wait.ts';

/** Client addresses beside its own, for schedulers that hash them. */
const ADDRESSES = 128;

/** Seconds: after them, who is to wait waits. */
const BRIEF = 0.7;

describe.each(MODES)('%s', (mode) => {
  let live: Live;
  const holding: Running[] = [];

  // One for all tests of a mode: each begins with a reload to the file it wants.
  beforeAll(async () => {
    live = await Live.start(mode);
  });
  afterEach(release);
  afterAll(async () => {
    const { code } = await live.balancer.stop();
    await live[Symbol.asyncDispose]();
    expect(code).toBe(0);
  });

  const servers = async (count: number): Promise<Counts> => countBy(await answers(live.lab.client, live.vip, count));

  async function hold(count: number): Promise<Running> {
    const held = await holdConnections(live.lab.client, count, `${live.vip}:${ECHO}`);
    holding.push(held);
    return held;
  }

  /** How many of the held connections each server has. */
  async function heldBy(held: Running): Promise<Counts> {
    return countBy((await report(held)).map(({ server }) => server));
  }

  /** Ends all held connections, and waits until lb4 has seen it. */
  async function release(): Promise<void> {
    for (const held of holding.splice(0)) held.end();
    await live.balancer.settled('all connections to end', (stats) => stats.current_connections === 0);
  }

  /** One connection's fate: `open`, `reset` or, after so many seconds, `waits` (it is open, and no server has greeted it). */
  async function another(seconds = 40): Promise<string> {
    const greet = `exec 3<>/dev/tcp/${live.vip}/${ECHO} || exit 2; IFS= read -r -t ${seconds} line <&3; exit $(( $? > 128 ? 3 : $? ))`;
    const { code, stdout } = await live.lab.client.run('timeout', '60', 'bash', '-c', greet);
    return { 0: 'open', 1: 'reset', 2: 'reset', 3: 'waits' }[code] ?? `${code} ${stdout}`;
  }

  describe('schedulers', () => {
    test('roundrobin: exactly by weight', async () => {
      await live.reload({ weights: [3, 1], backend: 'balance = "roundrobin"' });
      const { server1 = 0, server2 = 0 } = await servers(80);
      expect(server1 + server2).toBe(80);
      // Each of the proxy's two workers has a turn of its own.
      expect(Math.abs(server1 - 60)).toBeLessThanOrEqual(mode === 'proxy' ? 2 : 0);
    });

    test('leastconn: long connections even out by weight, whoever had more before', async () => {
      await live.reload({ servers: [0] });
      const early = await hold(24);
      await live.reload({ weights: [3, 1], backend: 'balance = "leastconn"' });
      const late = await hold(24);
      expect(await heldBy(early)).toEqual({ server1: 24 });
      // In turn it would have been 18 and 6. Two workers of the proxy may choose at the same moment.
      const { server1 = 0, server2 = 0 } = await heldBy(late);
      expect(server1 + server2).toBe(24);
      expect(Math.abs(server1 - 12)).toBeLessThanOrEqual(mode === 'proxy' ? 2 : 0);
    });

    test('random: by weight, within five standard deviations', async () => {
      await live.reload({ weights: [3, 1], backend: 'balance = "random"' });
      const all = await answers(live.lab.client, live.vip, 200);
      const { server1 = 0, server2 = 0 } = countBy(all);
      expect(server1 + server2).toBe(200);
      expect(Math.abs(server1 - 150)).toBeLessThanOrEqual(31);
      // By lot: in turn, each four would have three of one and one of the other.
      const fours = Array.from({ length: 50 }, (_, index) => countBy(all.slice(4 * index, 4 * index + 4))['server1'] ?? 0);
      expect(new Set(fours).size).toBeGreaterThan(2);
    });

    test('maglev: by weight over many client ports', async () => {
      await live.reload({ weights: [3, 1], backend: 'balance = "maglev"' });
      const { server1 = 0, server2 = 0 } = await servers(300);
      expect(server1 + server2).toBe(300);
      expect(Math.abs(server1 - 225)).toBeLessThanOrEqual(38);
    });

    test('source: a client stays with its server, many clients go by weight', async () => {
      await live.reload({ weights: [3, 1], backend: 'balance = "source"' });
      expect(Object.values(await servers(40))).toEqual([40]);
      const network = mode === 'dsr' ? '10.81.0' : '10.71.0';
      const own = Array.from({ length: ADDRESSES }, (_, index) => `${network}.${110 + index}`);
      for (const address of own) live.lab.client.ip('addr', 'add', `${address}/24`, 'dev', 'eth0');
      const file = join(live.lab.directory, 'clients.curl');
      writeFileSync(file, own.map((address) => `url = http://${live.vip}/\ninterface = ${address}\n`).join('next\n'));
      const ask = async () => (await live.lab.client.run('curl', '-sS', '--max-time', '60', '-K', file)).stdout.trim().split('\n');
      const first = await ask();
      const { server1 = 0, server2 = 0 } = countBy(first);
      expect(server1 + server2).toBe(ADDRESSES);
      expect(Math.abs(server1 - ADDRESSES * 0.75)).toBeLessThanOrEqual(25);
      expect(await ask()).toEqual(first);
    });

    test('first: fills the first server to its maxconn, then the second', async () => {
      await live.reload({ settings: ['maxconn = 5'], backend: 'balance = "first"' });
      const held = await hold(8);
      expect(await heldBy(held)).toEqual({ server1: 5, server2: 3 });
      await release();
      expect(await heldBy(await hold(4))).toEqual({ server1: 4 });
    });
  });

  describe('limits', () => {
    test('a full server leaves its connections to the others', async () => {
      await live.reload({ settings: ['maxconn = 2'], backend: 'balance = "roundrobin"' });
      expect(await heldBy(await hold(16))).toEqual({ server1: 2, server2: 14 });
      expect(await live.metric('lb4_server_load', 'backend="echo-out",server="server1"')).toBe(2);
    });

    test('all servers full: a reset, or in proxy mode a place in the queue until there is room', async () => {
      await live.reload({ settings: ['maxconn = 3', 'maxconn = 3'], backend: 'queue_timeout = 60' });
      const held = await hold(6);
      expect(await heldBy(held)).toEqual({ server1: 3, server2: 3 });
      if (mode === 'proxy') {
        expect(await another(BRIEF)).toBe('waits');
        const waiting = hold(1);
        await pause(200);
        held.end();
        holding.push(await waiting);
      } else {
        const before = await live.balancer.verdict('resetFull');
        expect(await another()).toBe('reset');
        expect(await live.balancer.verdict('resetFull')).toBeGreaterThan(before);
        expect(await othersLiveOn(held)).toEqual([]);
      }
      await release();
      expect(await another()).toBe('open');
    });

    if (mode === 'proxy') {
      test('a queue has an end, in length and in time', async () => {
        await live.reload({ settings: ['maxconn = 1', 'maxconn = 1'], backend: 'max_queue = 1\nqueue_timeout = 0.5' });
        await hold(2);
        const began = performance.now();
        expect(await Promise.all([another(), another()])).toEqual(['reset', 'reset']);
        expect(performance.now() - began).toBeGreaterThan(500);
      });
    }

    test('a full frontend refuses, or in proxy mode lets clients wait', async () => {
      await live.reload({ frontend: 'maxconn = 4' });
      const held = await hold(4);
      const before = mode === 'proxy' ? 0 : await live.balancer.verdict('resetFull');
      if (mode === 'proxy') expect(await another(BRIEF)).toBe('waits');
      else expect(await another()).toBe('reset');
      if (mode !== 'proxy') expect(await live.balancer.verdict('resetFull')).toBeGreaterThan(before);
      // It is the echo frontend's limit alone.
      expect(await answers(live.lab.client, live.vip, 5)).toHaveLength(5);
      expect(await othersLiveOn(held)).toEqual([]);
      expect((await live.balancer.stats()).frontends['echo']?.current_connections).toBe(4);
      await release();
      expect(await another()).toBe('open');
    });

    test('weight 0: no new connections, the old ones go on', async () => {
      await live.reload({ backend: 'balance = "roundrobin"' });
      const held = await hold(10);
      const { server1 = 0 } = await heldBy(held);
      expect(server1).toBeGreaterThan(2);
      await live.reload({ weights: [0, 1], backend: 'balance = "roundrobin"' });
      expect(await servers(30)).toEqual({ server2: 30 });
      expect(await othersLiveOn(held)).toEqual([]);
      expect(await live.metric('lb4_server_status', 'backend="echo-out",server="server1"')).toBe(3);
      expect(await live.metric('lb4_server_current_sessions', 'backend="echo-out",server="server1"')).toBe(server1);
    });
  });

  describe('coming and going', () => {
    const first = (): string => `${live.addresses[0]}:${HTTP}`;

    test('a backup server serves only while no other does', async () => {
      await live.reload({ settings: ['', 'backup = true'] });
      expect(await servers(30)).toEqual({ server1: 30 });
      expect(await live.metric('lb4_backend_active_servers', 'backend="http-out"')).toBe(1);
      expect(await live.metric('lb4_backend_backup_servers', 'backend="http-out"')).toBe(1);
      await live.lab.killBackend(0);
      await answeredBy(live.lab.client, live.vip, 'server2');
      expect(await live.metric('lb4_backend_active_servers', 'backend="http-out"')).toBe(0);
      await live.lab.startBackend(0);
      await answeredBy(live.lab.client, live.vip, 'server1');
    });

    test('slow_start: a server that comes back gets little at first, its share in the end', async () => {
      await live.reload({ backend: 'balance = "roundrobin"\nslow_start = 3' });
      // Who was never away starts at once.
      expect(await live.metric('lb4_server_weight', 'backend="http-out"')).toBe(2);
      const weight = () => live.metric('lb4_server_weight', 'backend="http-out",server="server1"');
      const begins = async () => {
        await live.lab.killBackend(0);
        await live.balancer.health({ [first()]: false });
        const back = live.balancer.running.nextLine(/http-out \/ server1.*"msg":"server up again"/);
        await live.lab.startBackend(0);
        await back;
        // On a busy machine it may be over before anybody looks.
        for (const end = performance.now() + 3_000; performance.now() < end; ) if ((await weight()) < 1) return true;
        return false;
      };
      await waitUntil(begins, { what: 'a slow start that is seen' });
      const weights: number[] = [];
      const watching = waitUntil(
        async () => {
          weights.push(await weight());
          return weights.at(-1) === 1;
        },
        { what: 'the full weight', every: 50 },
      );
      // No more than the weight that it has afterwards, however late this machine lets it be.
      const { server1: early = 0 } = await servers(30);
      const reached = await weight();
      expect(early).toBeLessThanOrEqual(Math.ceil((30 * reached) / (reached + 1)) + 1);
      await watching;
      expect(weights).toEqual([...weights].sort((a, b) => a - b));
      const { server1 = 0 } = await servers(40);
      expect(Math.abs(server1 - 20)).toBeLessThanOrEqual(mode === 'proxy' ? 2 : 0);
    });
  });

  test('nothing is left of all that', async () => {
    const stats = await live.balancer.stats();
    expect(stats.current_connections).toBe(0);
    expect(await live.metric('lb4_server_current_sessions')).toBe(0);
    // DSR does not see that a server refuses, and counts the attempt until a SYN's timeout.
    if (mode !== 'dsr') expect(await live.metric('lb4_server_load')).toBe(0);
  });
});
