/**
 * Between two interfaces (`lb4 --inline`), in one run, in network namespaces: lb4 in user space, by tc and by XDP.
 *
 *     packets   64-byte frames of 1,000 established connections of a service, made as a NIC's driver has them and counted where they arrive
 *     stream    Gbit/s of one iperf3 stream to the service with default offloads
 *     crossing  Gbit/s of one past it, which is no service's
 *
 * Rounds are interleaved, so that noise falls on all alike. Root; `make bench` installs what it needs.
 */
import { fastPathObstacle } from '../src/io/fast-path.ts';
import { LARGE_RING, writeConfiguration } from '../test/lab/balancer.ts';
import { SERVICE, startInline } from '../test/lab/inline.ts';
import { cable, Lab, type Namespace } from '../test/lab/lab.ts';
import { median, spread, table } from './measure.ts';
import { compileDriver, driverRate, gigabits, type Road, silence } from './traffic.ts';

const ROUNDS = Number(process.env['LB4_BENCH_ROUNDS'] ?? 5);
const [FLOWS, PACKETS, IPERF] = [1000, 9000, 5201];
const [CLIENT, SERVER] = ['192.178.1.1', '192.178.1.2'];
const FAST_PATHS = { 'lb4 --inline, xdp': 'xdp', 'lb4 --inline, tc': 'tc', 'lb4 --inline in user space': 'off' } as const;
/** Milliseconds until what has just been opened is the kernel's. */
const PAUSE_MS = 300;

class Wire extends Lab implements Road {
  readonly client: Namespace = this.namespace('client');
  readonly balancer: Namespace = this.namespace('box');
  readonly servers: Namespace[] = [this.namespace('server')];

  constructor() {
    super();
    cable(this.client, 'eth0', `${CLIENT}/24`, this.balancer, 'front', undefined);
    cable(this.servers[0], 'eth0', `${SERVER}/24`, this.balancer, 'back', undefined);
    this.client.later(`route add default via ${SERVER}`);
  }
}

function configuration(box: Namespace, fastPath: string): string {
  const services = [PACKETS, IPERF].map(
    (port) => `[frontends.port${port}]
listen_addr = "${SERVICE}:${port}"
backend = "port${port}"
[backends.port${port}]
health_check = "none"
[backends.port${port}.servers.a]
addr = "${SERVER}:${port}"`,
  );
  return writeConfiguration(
    box,
    `[inline]
frontends = ["front"]
backend = "back"
${services.join('\n')}
[passthrough]
ring_slots = ${LARGE_RING}
fast_path = "${fastPath}"
`,
  );
}

async function measure(lab: Wire, one: () => Promise<number>): Promise<Record<string, number[]>> {
  const results: Record<string, number[]> = Object.fromEntries(Object.keys(FAST_PATHS).map((name) => [name, []]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, fastPath] of Object.entries(FAST_PATHS)) {
      const lb4 = await startInline(lab.balancer, configuration(lab.balancer, fastPath));
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      results[name].push(await one());
      await lb4.stop();
    }
  }
  return results;
}

async function packets(): Promise<void> {
  await using lab = new Wire();
  lab.likeHardware();
  silence(lab, PACKETS);
  const driver = compileDriver();
  const [server] = lab.servers;
  server.start([driver.traffic, 'answer', 'eth0', `${PACKETS}`]);
  const what = { port: PACKETS, flows: FLOWS, from: CLIENT, to: SERVICE, mac: server.mac('eth0') };
  print('thousand packets/s', await measure(lab, () => driverRate(lab, driver, what)), 0);
}

async function streams(address: string, what: string): Promise<void> {
  await using lab = new Wire();
  lab.servers[0].start(['iperf3', '-s', '-p', `${IPERF}`]);
  print(`Gbit/s ${what}`, await measure(lab, () => gigabits(lab, address, IPERF)), 1);
}

function print(unit: string, results: Readonly<Record<string, number[]>>, digits: number): void {
  const slowest = median(results['lb4 --inline in user space']);
  table([
    ['', unit, 'it / user space'],
    ...Object.entries(results).map(([name, values]) => [name, spread(values, digits), (median(values) / slowest).toFixed(2)]),
  ]);
  console.log();
}

const obstacle = fastPathObstacle();
if (obstacle !== undefined) console.log(`no fast path on this host: ${obstacle}`);
else {
  await packets();
  await streams(SERVICE, 'to the service');
  await streams(SERVER, 'past it');
}
