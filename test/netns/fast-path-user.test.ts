/** The fast path of a user who is not root: which capabilities it takes, and where that user may keep it. */
import { statSync } from 'node:fs';
import { expect, test } from 'vitest';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import { Balancer, configuration, LB4, STATS_PORT, writeConfiguration } from '../lab/balancer.ts';
import { launchAsNobody, NOBODY } from '../lab/nobody.ts';
import { Topology, VIP } from '../lab/topology.ts';

/** The ring takes CAP_NET_RAW. */
const ENOUGH = ['net_admin', 'net_raw', 'bpf', 'perfmon'];

/** What systemd's RuntimeDirectory= makes, and a bpffs as it mounts it: nobody but root may enter. */
const HOST = `mount -t tmpfs run /run; install -d -m 700 -o ${NOBODY} /run/lb4; mount -t bpf -o mode=700 bpf /sys/fs/bpf`;

test.skipIf(fastPathObstacle() !== undefined)(
  'four capabilities and a directory of its own suffice; what lacks is told in one line',
  async () => {
    await using lab = new Topology({ servers: 1 });
    await lab.startBackends();
    const { balancer: host, client } = lab;
    const settings = lab.settings({ more: '[passthrough]\nfast_path = "auto"' });
    const file = writeConfiguration(host, configuration(settings));
    // As root, once: lb4 itself could not.
    host.sh('sh', '-c', `${LB4} rules --passthrough --config=${file} >${file}.sh; sh ${file}.sh install`);
    const own = `/sys/fs/bpf/lb4-${statSync(`/run/netns/${host.name}`).ino}`;
    const mend = `chmod a+x /sys/fs/bpf && install -d -m 700 -o ${NOBODY} ${own}`;
    const mended = `${HOST}; ${mend}`;
    const obstacle = `no fast path in the kernel: this user may not make ${own}: as root, ${mend}`;

    const doctor = async (prepared: string, capabilities = ENOUGH) => {
      const running = launchAsNobody(host, settings, { capabilities, prepared }, 'doctor', '--passthrough');
      await running.exited;
      return running.lines.filter((line) => line.includes(' BPF: '));
    };
    expect(await doctor(mended)).toEqual([expect.stringMatching(/^ok +BPF: the programs of the fast path load$/)]);
    expect(await doctor(HOST)).toEqual([expect.stringContaining(obstacle)]);
    for (const name of ['bpf', 'perfmon']) {
      const others = ENOUGH.filter((other) => other !== name);
      const lacking = `no fast path in the kernel: this process lacks CAP_${name.toUpperCase()}; mend: `;
      expect(await doctor(mended, others)).toEqual([expect.stringContaining(lacking)]);
    }

    const start = async (prepared: string) => {
      const running = launchAsNobody(host, settings, { capabilities: ENOUGH, prepared }, '--passthrough', '--no-rules');
      await running.line(/"msg":"ready"/);
      expect((await client.run('curl', '-sS', '--max-time', '60', '-o', '/dev/null', `http://${VIP}/content/10000000`)).code).toBe(0);
      return new Balancer(host, running, `http://127.0.0.1:${STATS_PORT}/stats`);
    };
    const without = await start(HOST);
    expect(without.running.lines.filter((line) => line.includes('fast path'))).toEqual([expect.stringContaining(obstacle)]);
    expect(await without.stop()).toEqual({ code: 0, signal: null });
    const fast = await start(mended);
    expect(await fast.metric('lb4_fast_path_packets_total')).toBeGreaterThan(10);
    expect(await fast.stop()).toEqual({ code: 0, signal: null });
  },
);
