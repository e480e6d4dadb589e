/** Convey's defects in taking configuration files: lb4 has none of them, in any mode. */
import { describe, expect, test } from 'vitest';
import { configuration, LB4, type Mode, writeConfiguration } from '../lab/balancer.ts';
import type { Namespace } from '../lab/lab.ts';
import { Live, MODES } from '../lab/live.ts';
import { HTTP, Topology, VIP } from '../lab/topology.ts';

const MALFORMED = ['server1', '10.72.0.11', '10.72.0.11:80000', '10.72.0.300:80'];

async function answers(client: Namespace, vip: string): Promise<string> {
  const { stdout } = await client.run('curl', '-sS', '--max-time', '60', `http://${vip}/`);
  return stdout.trim();
}

test.each(MODES)('Convey: a malformed addr in a reloaded file panics (%s)', async (mode) => {
  await using live = await Live.start(mode, { servers: [0] });
  const { running } = live.balancer;
  const good = live.text({ servers: [0] });
  for (const addr of MALFORMED) {
    const complaint = running.nextLine(/live\.toml:\d+:\d+: .*addr/);
    const refusal = running.nextLine(/reload failed/);
    live.replace(good.replace(`addr = "${live.addresses[0]}:${HTTP}"`, `addr = "${addr}"`));
    expect(await complaint).toContain('backends.http-out.servers.server1.addr');
    await refusal;
    expect(await answers(live.lab.client, live.vip)).toBe('server1');
  }
  await live.reload({ servers: [1] });
  expect(await answers(live.lab.client, live.vip)).toBe('server2');
  expect(await live.balancer.stop()).toEqual({ code: 0, signal: null });
});

describe('Convey: a bad config at start logs nothing by default and exits 0', () => {
  const good = configuration({ frontends: { web: { listen: `${VIP}:80`, servers: ['10.72.0.11:80'] } } });
  const mistakes: [what: string, text: string, place: RegExp, says: string][] = [
    ['a malformed addr', good.replace('10.72.0.11:80', '10.72.0.11'), /:\d+:\d+: backends\.web-out\.servers\.s1\.addr: /, 'has no port'],
    ['a frontend that names a missing backend', good.replace('"web-out"', '"wbe-out"'), /:\d+:\d+: frontends\.web\.backend: /, 'web-out'],
    ['no TOML', good.replace('[frontends.web]', '[frontends.web'), /:2:\d+: /, 'not valid TOML'],
  ];

  test.each(MODES)('%s', async (mode: Mode) => {
    await using lab = new Topology({ servers: 1 });
    const flags = mode === 'proxy' ? [] : [`--${mode}`];
    for (const [what, text, place, says] of mistakes) {
      const file = writeConfiguration(lab.balancer, text);
      const { code, stderr } = await lab.balancer.run('env', '-u', 'LB4_LOG', LB4, ...flags, `--config=${file}`);
      expect([what, code]).toEqual([what, 78]);
      expect(stderr).toContain(file);
      expect(stderr).toMatch(place);
      expect(stderr).toContain(says);
      expect(stderr, 'a stack').not.toMatch(/\n\s+at /);
    }
    const missing = await lab.balancer.run(LB4, ...flags, '--config=/nowhere/lb4.toml');
    expect([missing.code, missing.stderr]).toEqual([78, expect.stringContaining('/nowhere/lb4.toml')]);
    expect(lab.balancer.pids()).toEqual([]);
  });
});
