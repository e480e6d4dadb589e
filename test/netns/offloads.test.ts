/** Frames as they come: super-packets with offloads on, ordinary ones with offloads off; tcpdump is the witness of both. */
import { expect, test } from 'vitest';
import { LARGE_RING, startBalancer, UNTALKATIVE } from '../lab/balancer.ts';
import { Capture } from '../lab/capture.ts';
import type { EchoReport } from '../lab/client.ts';
import { Iperf } from '../lab/iperf.ts';
import { ECHO, HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { ACK, RawHost, SYN } from '../lab/wire.ts';

interface Report {
  readonly end: {
    readonly sum_sent: { readonly bytes: number };
    readonly sum_received: { readonly bytes: number; readonly bits_per_second: number };
  };
}

async function report(lab: Topology, iperf: Iperf, ...args: string[]): Promise<Report> {
  const { code, stdout, stderr } = await iperf.run(lab.client, VIP, ...args);
  if (code !== 0) throw new Error(stdout + stderr);
  return JSON.parse(stdout) as Report;
}

async function iperfBehind(lab: Topology) {
  const iperf = await Iperf.start(lab.servers[0]);
  const frontend = { listen: `${VIP}:${Iperf.port}`, servers: [`${serverAddress(0)}:${Iperf.port}`], backend: UNTALKATIVE };
  return { iperf, balancer: await startBalancer(lab.balancer, { frontends: { iperf: frontend }, ring: LARGE_RING }) };
}

/** Frames that crossed, and the longest. */
function summary(lengths: number[]): { frames: number; longest: number; bytes: number } {
  return {
    frames: lengths.length,
    longest: lengths.reduce((a, b) => Math.max(a, b), 0),
    bytes: lengths.reduce((a, b) => a + b, 0),
  };
}

for (const [direction, args] of [
  ['upload', []],
  ['download', ['-R']],
] as const) {
  test(`iperf3 ${direction} with default offloads: super-packets pass whole, none is cut, none is split`, async () => {
    await using lab = new Topology({ servers: 1 });
    const { iperf, balancer } = await iperfBehind(lab);
    const [from, to] = direction === 'upload' ? ['front', 'back'] : ['back', 'front'];
    // What enters the balancer and what leaves it, as its own interfaces see them.
    const entering = await Capture.start(lab.balancer, from, `tcp and ${direction === 'upload' ? 'dst' : 'src'} port ${Iperf.port}`, 96);
    const leaving = await Capture.start(lab.balancer, to, `tcp and ${direction === 'upload' ? 'dst' : 'src'} port ${Iperf.port}`, 96);
    const result = await report(lab, iperf, ...args, '-n', '300M');
    const stats = await balancer.stats();
    const into = summary(await entering.lengths());
    const out = summary(await leaving.lengths());
    expect(into.longest).toBeGreaterThan(30_000);
    expect(out.longest).toBe(into.longest);
    expect(stats.lb4.verdicts['dropTruncated'] ?? 0).toBe(0);
    if (stats.lb4.frames.dropped === 0) {
      // Of the last ones some may still have been under way when the captures ended.
      expect(Math.abs(out.frames - into.frames)).toBeLessThan(20);
      expect(Math.abs(out.bytes - into.bytes)).toBeLessThan(20 * 60);
    }
    expect(result.end.sum_received.bytes).toBeGreaterThan(200e6);
    expect((await balancer.stop()).code).toBe(0);
  });
}

test('iperf3 with all offloads off: every frame fits the MTU, every checksum on both wires is right', async () => {
  await using lab = new Topology({ servers: 1 });
  lab.setOffloads('off');
  const { iperf, balancer } = await iperfBehind(lab);
  const captures = [await Capture.start(lab.client, 'eth0', 'ip'), await Capture.start(lab.servers[0] ?? lab.client, 'eth0', 'ip')];
  for (const args of [[], ['-R'], ['--bidir']]) {
    const { end } = await report(lab, iperf, ...args, '-n', '8M');
    expect(end.sum_received.bytes).toBeGreaterThan(1e6);
  }
  for (const capture of captures) {
    const { packets, bad } = await capture.checksums();
    expect(packets).toBeGreaterThan(5_000);
    expect(bad).toEqual([]);
    expect(Math.max(...(await capture.lengths()))).toBeLessThanOrEqual(1500);
  }
  expect((await balancer.stop()).code).toBe(0);
});

test('odd lengths, small answers, resets and health checks: every checksum on both wires is right', async () => {
  await using lab = new Topology({ servers: 2 });
  lab.setOffloads('off');
  const balancer = await lab.serve({ ring: LARGE_RING });
  const captures = [
    await Capture.start(lab.client, 'eth0', 'ip or icmp'),
    await Capture.start(lab.servers[0] ?? lab.client, 'eth0', 'ip or icmp'),
  ];
  for (const bytes of [0, 1, 2, 3, 1447, 1448, 1449, 4097]) {
    const running = lab.client.program('client', 'echo', '10', `${bytes}`, `${VIP}:${ECHO}`);
    expect((JSON.parse(await running.line(/^\{/)) as EchoReport).ok).toBe(10);
  }
  const raw = await RawHost.attach(lab.client, 'eth0', '10.71.0.200', { namespace: lab.balancer, device: 'front' });
  raw.send({ destination: VIP, sourcePort: 1234, destinationPort: HTTP, flags: ACK, sequence: 5, acknowledgment: 6 });
  raw.send({ destination: VIP, sourcePort: 1235, destinationPort: HTTP, flags: SYN, ttl: 1, sequence: 5 });
  await raw.expect('time exceeded', (packet) => packet.protocol === 1);
  await lab.killBackend(0);
  await lab.killBackend(1);
  await balancer.health({ '10.72.0.11:80': false, '10.72.0.12:80': false });
  await lab.client.run('curl', '-sS', `http://${VIP}/`);
  for (const capture of captures) {
    const { packets, bad } = await capture.checksums();
    expect(packets).toBeGreaterThan(100);
    expect(bad).toEqual([]);
  }
  expect((await balancer.stop()).code).toBe(0);
});
