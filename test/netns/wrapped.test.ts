/** `dsr = "gue"` and `"ipip"` end to end, by the kernel, too: packets inside of others, unwrapped by servers that hold the VIP. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Finding } from '../../src/doctor/finding.ts';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import { configuration, LB4, writeConfiguration } from '../lab/balancer.ts';
import { Capture } from '../lab/capture.ts';
import { contentHash } from '../lab/content.ts';
import { CLIENT, DsrTopology, SERVERS, VIP } from '../lab/dsr-topology.ts';
import { endToEndWrapped, passthroughBy, wired } from '../lab/end-to-end.ts';
import { ROOT } from '../lab/lab.ts';
import { PYTHON } from '../lab/processes.ts';
import { hashOfUpload } from '../lab/upload.ts';
import { waitUntil } from '../lab/wait.ts';
import { ACK, ICMP, ipv4, RawHost } from '../lab/wire.ts';

const SIZE = 10_000_000;
const OUTER = '10.82.0.9';

/** Has each server unwrap packets, and hold the VIP without answering ARP for it. */
async function unwrap(lab: DsrTopology, port: number): Promise<void> {
  for (const server of lab.servers) {
    server.ip('address', 'add', `${VIP}/32`, 'dev', 'lo');
    server.sysctl('net.ipv4.conf.all.arp_ignore', '1');
    server.sysctl('net.ipv4.conf.all.arp_announce', '2');
    // What the kernel puts together of IP in IP comes to a raw socket without a whole checksum.
    server.sh('ethtool', '-K', 'eth0', 'gro', 'off');
    await server.start([PYTHON, '-IS', join(ROOT, 'test/lab/unwrap.py'), 'tun0', `${port}`]).line(/^ready/);
  }
}

/** To all that goes to the servers' tunnels, and which the kernel gives up to find at once. */
const GATEWAY_THAT_IS_NOT_THERE = `sysctl -qw net.ipv4.neigh.eth0.retrans_time_ms=10 net.ipv4.neigh.eth0.mcast_solicit=1
  ip route add default via 10.82.0.77 table 77; ip rule add ipproto udp dport 19523 lookup 77`;

/** By source and port, so that one client has rows of both servers. */
const GLB = [
  'balance = "glb"',
  'hash_fields = ["source", "source_port"]',
  'hash_key = "12345678901234561234567890123456"',
  'seed = "34567890123456783456789012345678"',
];

/** Port, lines of the backend, what fits, and what packets to the servers are in a capture. */
const KINDS = {
  gue: [6080, ['gue_port = 6080', ...GLB].join('\n'), 1460, `udp and src ${OUTER} and dst port 6080`],
  ipip: [0, `source_addr = "${OUTER}"`, 1480, `ip proto 4 and src ${OUTER}`],
} as const;

endToEndWrapped((driver, dsr) => {
  const [port, keys, mtu, wrapped] = KINDS[dsr === 'gue' ? 'gue' : 'ipip'];

  test('requests, a large answer, and an upload in super-packets, whose sender learns what fits; an error about an answer', async () => {
    await using lab = wired(driver, new DsrTopology());
    await lab.startServers();
    await unwrap(lab, port);
    const { frontends } = lab.settings(dsr);
    const more = Object.entries(frontends).map(([name, frontend]) => [name, { ...frontend, backend: `${frontend.backend}\n${keys}` }]);
    const settings = { frontends: Object.fromEntries(more), more: passthroughBy(driver) };
    const balancer = await lab.serve(settings);
    const wires = await Promise.all(lab.servers.map((server) => Capture.start(server, 'eth0', wrapped, 128)));

    const urls = Array.from({ length: 40 }, () => `http://${VIP}/`);
    const { stdout } = await lab.client.run('curl', '-sS', '--max-time', '60', '-H', 'Connection: close', ...urls);
    expect([...new Set(stdout.trim().split('\n'))].sort()).toEqual(['server1', 'server2']);
    expect((await lab.client.run('sh', '-c', `curl -sS --max-time 80 http://${VIP}/content/${SIZE} | sha256sum`)).stdout.slice(0, 64)).toBe(
      contentHash(SIZE),
    );
    expect(await hashOfUpload(lab.client, `http://${VIP}/`, SIZE)).toBe(contentHash(SIZE));
    expect(lab.client.ip('route', 'get', VIP)).toContain(`mtu ${mtu}`);
    expect(await balancer.verdict('tooBig')).toBeGreaterThanOrEqual(1);
    if (driver.isFast === true) expect(await balancer.metric('lb4_fast_path_packets_total')).toBeGreaterThan(100);
    // Of a super-packet the kernel numbers the segments.
    const headers = driver.isFast === true ? /ttl 64, id \d+, offset 0, flags \[DF\]/ : /ttl 64, id 0, offset 0, flags \[DF\]/;
    for (const wire of wires) {
      const lines = await wire.stop('-v');
      expect(lines.length).toBeGreaterThan(40);
      expect(lines.filter((line) => !headers.test(line))).toEqual([]);
      expect(lines.filter((line) => /bad cksum/.test(line))).toEqual([]);
    }

    if (driver.name === 'ring' && dsr === 'ipip') {
      // Its tunnel is asked from here, too. Who unwraps it by hand has no clamp.
      const file = writeConfiguration(lab.balancer, configuration(settings));
      const { stdout } = await lab.balancer.run(LB4, 'doctor', '--dsr', '--json', '--for', SERVERS[0], `--config=${file}`);
      const { findings } = JSON.parse(stdout) as { findings: Finding[] };
      const about = ['tunnel', 'VIP', 'MSS', 'path MTU'].map((name) => findings.find(({ check }) => check === name)?.message);
      expect(about).toEqual([
        `server ${SERVERS[0]} takes packets out of its tunnel (IP in IP), and answers`,
        `server ${SERVERS[0]} has ${VIP}`,
        expect.stringContaining('lets clients send 1460 bytes a segment, and the tunnel has room for 1440'),
        expect.stringContaining('packets of 1500 bytes reach'),
      ]);
    }

    // lb4 knows no flow of it: the hash alone says whose it is.
    const inside = await Promise.all(lab.servers.map((server) => Capture.start(server, 'tun0', 'icmp')));
    const router = await RawHost.attach(lab.router, 'in', '10.82.0.200', { namespace: lab.balancer, device: 'eth0' });
    const quoted = { source: VIP, sourcePort: 80, destination: CLIENT, destinationPort: 4321, flags: ACK, payload: Buffer.alloc(100) };
    router.send({ destination: VIP, protocol: ICMP, type: 3, code: 4, rest: 1300, payload: ipv4(quoted).subarray(0, 28) });
    await balancer.settled('the error handed on', ({ lb4 }) => lb4.verdicts['icmpTranslated'] === 1);
    // Who unwraps it is a program, which takes its time.
    await waitUntil(() => inside.some((wire) => wire.hasAny), { what: 'the error to be unwrapped', every: 50 });
    const heard = (await Promise.all(inside.map((wire) => wire.stop()))).flat();
    expect(heard).toEqual([expect.stringContaining(`${VIP}: ICMP ${CLIENT} unreachable - need to frag (mtu 1300)`)]);
    expect((await balancer.stop()).code).toBe(0);
  });
});

test.skipIf(fastPathObstacle() !== undefined)(
  'by tc super-packets stay whole, up to the program that takes them out at a server; a narrow link behind a router, and a gateway that is not there',
  async () => {
    await using lab = new DsrTopology();
    await lab.startServers();
    const settings = { ...lab.settings('gue'), more: '[passthrough]\nfast_path = "tc"\n' };
    lab.rules(settings, 'install', '--dialect', 'bpf');
    const balancer = await lab.serve(settings);
    const wires = await Promise.all(lab.servers.map((server) => Capture.start(server, 'eth0', 'udp dst port 19523 and greater 3000', 128)));
    expect(await hashOfUpload(lab.client, `http://${VIP}/`, SIZE)).toBe(contentHash(SIZE));
    expect(await balancer.metric('lb4_fast_path_packets_total')).toBeGreaterThan(10);
    const large = (await Promise.all(wires.map((wire) => wire.stop()))).flat();
    expect(large.length).toBeGreaterThan(10);

    // A link behind a router takes less than the first one does. The router says so to this host, and the client hears of it all the same.
    for (const setting of ['all', 'in']) lab.router.sysctl(`net.ipv4.conf.${setting}.send_redirects`, '0');
    for (const server of SERVERS) {
      lab.router.ip('route', 'add', server, 'dev', 'in', 'mtu', '1400');
      lab.balancer.ip('route', 'add', server, 'via', '10.82.0.1');
    }
    const narrow = balancer.running.nextLine(/a link on the way to server/);
    expect(await hashOfUpload(lab.client, `http://${VIP}/`, SIZE / 10)).toBe(contentHash(SIZE / 10));
    expect(await narrow).toMatch(/to server 10\.82\.0\.1[12] takes 1400 bytes, says 10\.82\.0\.1, and the route there says more/);
    expect(await balancer.metric('lb4_tunnel_too_big_total')).toBeGreaterThan(0);
    expect(lab.client.ip('route', 'get', VIP)).toContain(' mtu 1364 ');

    // Checks go another way than what is wrapped.
    const lost = balancer.running.nextLine(/no way from this host to a server/);
    const { running } = balancer;
    lab.balancer.sh('sh', '-c', GATEWAY_THAT_IS_NOT_THERE);
    expect(await lost).toMatch(/"ways":\["this host -> 10\.82\.0\.1[12]".*nobody answers ARP for it, or for the gateway to it/);
    const found = running.nextLine(/the way from this host to a server is there again/);
    const before = await balancer.verdict('forwarded');
    expect((await lab.client.run('curl', '-sS', '--max-time', '1', `http://${VIP}/`)).code).toBe(28);
    expect([await balancer.verdict('dropNoRoute'), await balancer.verdict('forwarded')]).toEqual([expect.toSatisfy((n) => n > 0), before]);
    lab.router.ip('address', 'add', '10.82.0.77/24', 'dev', 'in');
    await found;
    expect((await lab.client.run('curl', '-sS', '--max-time', '60', `http://${VIP}/`)).stdout).toMatch(/server[12]/);
    expect((await balancer.stop()).code).toBe(0);
  },
);
