/** In the guest, for bench/fou.ts: Gbit/s of one iperf3 stream inside of GUE that lb4 wraps by tc, by what unwraps it at the server. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { renderServerScript } from '../../src/rules/render.ts';
import type { Unwrap } from '../../src/rules/types.ts';
import { startBalancer, UNTALKATIVE } from '../../test/lab/balancer.ts';
import { DsrTopology, SERVERS, VIP } from '../../test/lab/dsr-topology.ts';
import { GUE_PORT } from '../../test/lab/gue.ts';
import { Iperf } from '../../test/lab/iperf.ts';
import { ROUNDS, SETTINGS, type Setting, UNWRAPS } from '../fou-rounds.ts';

const SECONDS = 4;
const [SERVER] = SERVERS;

await using lab = new DsrTopology();
const { balancer, client, router, servers } = lab;
const [server] = servers;
const frontends = {
  iperf: { listen: `${VIP}:${Iperf.port}`, servers: [`${SERVER}:${Iperf.port}`], backend: `${UNTALKATIVE}\ndsr = "gue"` },
};
const more = '[passthrough]\nfast_path = "tc"\nconnection_tracker_capacity = 10000';
await startBalancer(balancer, { frontends, more }, { args: ['--dsr'], healthy: false });
const iperf = await Iperf.start(server);

const scripts = Object.fromEntries(UNWRAPS.map((unwrap) => [unwrap, script(unwrap)])) as Record<Unwrap, string>;
for (let round = 0; round < ROUNDS; round++) {
  for (const unwrap of UNWRAPS) {
    server.sh('sh', scripts[unwrap], 'install');
    for (const setting of SETTINGS) {
      offloads(setting);
      process.stdout.write(`figure ${setting}, ${unwrap}: ${await stream()}\n`);
    }
    server.sh('sh', scripts[unwrap], 'remove');
  }
}

function script(unwrap: Unwrap): string {
  const file = join(lab.directory, `${unwrap}.sh`);
  const tunnels = [{ vip: VIP, port: GUE_PORT, overhead: 48 }];
  writeFileSync(file, renderServerScript({ server: SERVER, rewrites: [], loopback: [], tunnels, hops: [], unwrap }));
  return file;
}

/** Without them a packet a segment arrives, as from a network card whose driver puts nothing together. */
function offloads(setting: Setting): void {
  const state = setting === 'default offloads' ? 'on' : 'off';
  client.sh('ethtool', '-K', 'eth0', 'tso', state, 'gso', state);
  router.sh('ethtool', '-K', 'out', 'gro', state);
}

async function stream(): Promise<number> {
  const { code, stdout, stderr } = await iperf.run(client, VIP, '-t', `${SECONDS}`);
  const { end } = JSON.parse(stdout) as { end: { sum_received?: { bits_per_second: number } } };
  if (end.sum_received === undefined) throw new Error(`iperf3 (${code}): ${stdout}${stderr}`);
  return end.sum_received.bits_per_second / 1e9;
}
