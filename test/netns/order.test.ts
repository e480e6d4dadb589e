/** The order of a connection's segments: nothing that passes lb4 overtakes anything. */
import { expect, test } from 'vitest';
import { LARGE_RING } from '../lab/balancer.ts';
import { Capture } from '../lab/capture.ts';
import type { Namespace } from '../lab/lab.ts';
import { HTTP, Topology, VIP } from '../lab/topology.ts';

const DOWNLOADS = 12;
const ROUNDS = 3;
/** A frame for which there was no room is sent again, behind others: of such a try nothing can be said. */
const TRIES = 5;
const BYTES = 3_000_000;

/** The sequence numbers of each connection's data, in the order seen. Connections are named by their first: NAT changes all else. */
function sequences(lines: readonly string[]): Map<string, string[]> {
  const byPort = new Map<string, string[]>();
  for (const line of lines) {
    const [, port = '', sequence = ''] = / > [\d.]+\.(\d+): .* seq (\d+:\d+),/.exec(line) ?? [];
    if (sequence !== '') byPort.set(port, [...(byPort.get(port) ?? []), sequence]);
  }
  return new Map([...byPort.values()].map((all) => [all[0], all]));
}

/** Segments that reached this host's TCP before the ones they follow. */
function outOfOrder(host: Namespace): number {
  return Number(/TcpExtTCPOFOQueue\s+(\d+)/.exec(host.sh('nstat', '-asz', 'TcpExtTCPOFOQueue'))?.[1]);
}

test('segments of concurrent downloads leave in the order they came in, and none arrives out of order', async () => {
  await using lab = new Topology({ servers: 1 });
  // Without this the kernel itself reorders between the server and lb4 (docs/operations.md, "veth").
  for (const [host, device] of [
    [lab.balancer, 'back'],
    [lab.balancer, 'front'],
    [lab.client, 'eth0'],
    [lab.servers[0], 'eth0'],
  ] as const) {
    host.keepOrder(device);
  }
  const balancer = await lab.serve({ ring: LARGE_RING });
  const dropped = async () => (await balancer.stats()).lb4.frames.dropped;
  for (let tries = 1; ; tries++) {
    const before = [await dropped(), outOfOrder(lab.client)];
    const [came, left] = await download(lab);
    if ((await dropped()) > (before[0] ?? 0) && tries < TRIES) continue;
    expect(came.size).toBe(DOWNLOADS * ROUNDS);
    expect(left).toEqual(came);
    expect([await dropped(), outOfOrder(lab.client)]).toEqual(before);
    break;
  }
  expect((await balancer.stop()).code).toBe(0);
});

/** Downloads side by side, a few times. Returns what entered lb4 and what left it. */
async function download(lab: Topology): Promise<[Map<string, string[]>, Map<string, string[]>]> {
  const entering = await Capture.start(lab.balancer, 'back', `tcp src port ${HTTP}`, 96);
  const leaving = await Capture.start(lab.balancer, 'front', `tcp src port ${HTTP}`, 96);
  for (let round = 0; round < ROUNDS; round++) {
    const one = () => lab.client.run('curl', '-sS', '--max-time', '60', '-o', '/dev/null', `http://${VIP}/content/${BYTES}`);
    const results = await Promise.all(Array.from({ length: DOWNLOADS }, one));
    expect(results.map(({ code, stderr }) => [code, stderr])).toEqual(Array.from({ length: DOWNLOADS }, () => [0, '']));
  }
  return [sequences(await entering.stop('-S')), sequences(await leaving.stop('-S'))];
}
