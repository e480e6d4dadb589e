/** The package goes away, or is replaced, under a lb4 that runs. */
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { answeredBy } from '../lab/answers.ts';
import { Balancer, configuration, type Mode, STATS_PORT } from '../lab/balancer.ts';
import { copyPackage } from '../lab/package.ts';
import { HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';

async function start(lab: Topology, mode: Mode): Promise<{ balancer: Balancer; copy: string; file: string }> {
  const copy = join(lab.directory, 'package');
  const lb4 = copyPackage(copy);
  const file = join(lab.directory, 'upgrade.toml');
  writeFileSync(file, configuration(lab.settings()));
  const running = lab.balancer.start([lb4, ...(mode === 'proxy' ? [] : [`--${mode}`]), `--config=${file}`]);
  await running.line(/"msg":"ready"/);
  const balancer = new Balancer(lab.balancer, running, `http://127.0.0.1:${STATS_PORT}/stats`);
  await balancer.health({ [`${serverAddress(0)}:${HTTP}`]: true, [`${serverAddress(1)}:${HTTP}`]: true });
  return { balancer, copy, file };
}

test.each(['passthrough', 'proxy'] as const)(
  '%s, the whole package removed: checks, reloads good and bad, statistics and the stop go on',
  async (mode) => {
    await using lab = new Topology({ servers: 2 });
    await lab.startBackends();
    const { balancer, copy, file } = await start(lab, mode);
    rmSync(copy, { recursive: true });
    await lab.killBackend(0);
    await balancer.health({ [`${serverAddress(0)}:${HTTP}`]: false });
    await answeredBy(lab.client, VIP, 'server2');

    // The file is replaced at once, as it must be: half of it would be another file.
    const replace = async (text: string, says: RegExp) => {
      const said = balancer.running.nextLine(says);
      writeFileSync(`${file}.new`, text);
      renameSync(`${file}.new`, file);
      await said;
    };
    await replace('[frontends.http]\nlisten_addr = 5\n', /reload failed/);
    const { frontends } = lab.settings();
    const extra = { listen: `${VIP}:81`, servers: [`${serverAddress(1)}:${HTTP}`] };
    await replace(configuration({ frontends: { ...frontends, extra } }), /"msg":"configuration reloaded"/);
    await answeredBy(lab.client, `${VIP}:81`, 'server2');

    const metrics = await lab.balancer.run('curl', '-sS', '--max-time', '60', `http://127.0.0.1:${STATS_PORT}/metrics`);
    expect(metrics.stdout).toContain('lb4_');
    expect(await balancer.stop()).toEqual({ code: 0, signal: null });
    expect(traces(lab.balancer)).toEqual(NOTHING);
  },
);
