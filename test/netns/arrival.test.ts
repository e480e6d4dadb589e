/** Frames that the kernel counts and lb4 never receives, of one frontend, while another one works. */
import { rmSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { configuration, LB4, STATS_PORT, writeConfiguration } from '../lab/balancer.ts';
import { bridgeIn } from '../lab/lab.ts';
import { wrapTools } from '../lab/tools.ts';
import { serverAddress, Topology, VIP } from '../lab/topology.ts';

const CALL = 'net.bridge.bridge-nf-call-iptables';
/** The balancer on the bridge where its containers are. */
const INNER = '10.73.0.1';

test('a frontend whose clients come by a bridge that br_netfilter shows to rules which cannot be changed: named, while others are served', async () => {
  await using lab = new Topology({ servers: 1 });
  await lab.startBackends();
  lab.balancer.sysctl(CALL, '0');
  const container = lab.namespace('container');
  bridgeIn(lab.balancer, 'inner', `${INNER}/24`)(container, 'eth0', '10.73.0.50/24');
  lab.servers[0]?.ip('route', 'add', '10.73.0.0/24', 'via', '10.72.0.1');
  const servers = [`${serverAddress(0)}:80`];
  const frontends = { outer: { listen: `${VIP}:80`, servers }, inner: { listen: `${INNER}:80`, servers } };
  const file = writeConfiguration(lab.balancer, configuration({ frontends }));
  const { wrapper, broken } = wrapTools(lab);
  const running = lab.balancer.start([LB4, '--passthrough', `--config=${file}`], { env: { LB4_IPTABLES: wrapper } });
  await running.line(/"msg":"ready"/);
  const fetch = async (from: typeof container, vip: string, seconds: number) =>
    (await from.run('curl', '-sS', '--max-time', `${seconds}`, `http://${vip}/`)).stdout;
  expect(await fetch(container, INNER, 60)).toMatch(/^server1/);

  writeFileSync(broken, '');
  lab.balancer.sysctl(CALL, '1');
  const told = running.nextLine(/frames of frontends: missing/, 180_000);
  let isTold = false;
  const calls = async () => {
    while (!isTold) {
      await Promise.all(Array.from({ length: 10 }, () => fetch(container, INNER, 1)));
      expect(await fetch(lab.client, VIP, 60)).toMatch(/^server1/);
    }
  };
  const calling = calls();
  expect(await told.finally(() => (isTold = true))).toMatch(
    /missing \(frontend inner \(10\.73\.0\.1:80\): \d+ packets counted, none received\).*br_netfilter/,
  );
  await calling;
  const { stdout } = await lab.balancer.run('curl', '-sS', `http://127.0.0.1:${STATS_PORT}/metrics`);
  expect(stdout).toMatch(/^lb4_host_missing\{what="frames"\} 1$/m);
  const doctor = await lab.balancer.run(LB4, 'doctor', '--passthrough', `--config=${file}`);
  expect(doctor.stdout).toMatch(/^fail +running: lb4 runs and lacks frames: frontend inner/m);

  const over = running.nextLine(/frames of frontends: all there again/, 60_000);
  rmSync(broken);
  await running.line(/have taken another form/, 60_000);
  expect(await fetch(container, INNER, 60)).toMatch(/^server1/);
  await over;
  expect(await running.stop()).toEqual({ code: 0, signal: null });
});
