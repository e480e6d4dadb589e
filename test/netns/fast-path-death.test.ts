/** kill -9 with the fast path on: established connections do not even wait. */
import { expect, test } from 'vitest';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import { contentHash } from '../lab/content.ts';
import { Live } from '../lab/live.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { waitUntil } from '../lab/wait.ts';

const TRANSFERS = 10;
const SIZE = 5_000_000;
/** So long they take, whatever the machine can. */
const SECONDS = 8;
const TC = { more: '[passthrough]\nfast_path = "tc"' };

const why = fastPathObstacle();

test.skipIf(why !== undefined).each(['passthrough', 'dsr'] as const)(
  '%s: ten transfers come to their end while nobody runs',
  async (mode) => {
    await using live = await Live.start(mode, TC);
    const { client, balancer: host } = live.lab;
    const curl = `curl -sS --limit-rate ${Math.round(SIZE / SECONDS)} http://${live.vip}/content/${SIZE}`;
    const transfers = Array.from({ length: TRANSFERS }, () => client.run('sh', '-c', `${curl} | sha256sum`));
    await live.balancer.settled('all to be established', (stats) => stats.current_connections === TRANSFERS);
    const isTaken = async () => (await live.metric('lb4_fast_path_packets_total')) > 10 * TRANSFERS;
    await waitUntil(isTaken, { what: 'the kernel to forward' });
    await live.balancer.stop('SIGKILL');
    // Nobody is there until the last byte has come.
    for (const { stdout, stderr } of await Promise.all(transfers)) expect([stdout.split(' ')[0], stderr]).toEqual([contentHash(SIZE), '']);
    await live.launch();
    expect(JSON.parse(await live.balancer.running.line(/go on/))).toMatchObject({ connections: TRANSFERS });
    // What has passed meanwhile stands in the books; servers' headers and what was sent twice come on top.
    if (mode === 'passthrough') {
      const { total_bytes_rx: received } = await live.balancer.settled('the books', (stats) => stats.total_bytes_rx >= TRANSFERS * SIZE);
      expect(received).toBeLessThan(1.1 * TRANSFERS * SIZE);
    }
    const { stdout } = await client.run('curl', '-sS', '--max-time', '60', `http://${live.vip}/`);
    expect(stdout).toMatch(/^server/);
    expect(await live.balancer.stop()).toEqual({ code: 0, signal: null });
    expect(traces(host)).toEqual(NOTHING);
  },
);
