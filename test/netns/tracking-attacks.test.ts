/** What strangers may try against lb4's tracking, who see no answers: nothing counts as a connection, and no connection ends by it. */
import { describe, expect, test } from 'vitest';
import { RESET } from '../lab/answers.ts';
import { LARGE_RING, startBalancer, UNTALKATIVE } from '../lab/balancer.ts';
import { CLIENT as DSR_CLIENT } from '../lab/dsr-topology.ts';
import { floodEnd, startAnswers, startFlood } from '../lab/flood.ts';
import { RawPair } from '../lab/raw-pair.ts';
import { clientAddress, HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { type Pair, Tracked } from '../lab/tracked.ts';
import { pause, waitUntil } from '../lab/wait.ts';
import { ACK, FIN, ICMP, ipv4, type Packet, RawHost, RST, SYN } from '../lab/wire.ts';

const TIMEOUTS = { syn: 2, established: 7_440, fin: 2, time_wait: 1, closed: 1 };
const SHORT = `[passthrough.timeouts]\n${Object.entries(TIMEOUTS)
  .map(([key, seconds]) => `${key} = ${seconds}`)
  .join('\n')}`;
/** Longer than any of them but `established`, and a round of the sweep. */
const LONG = 3_500;
/** In a flood a handshake has a quarter of a second, an eighth of `syn`: one that a busy machine made wait longer is reset when its ACK comes, and has not counted. */
const TRIES = 3;

/** What curl says of a request that is tried again where it was reset. */
async function request(lab: Topology): Promise<[number, string]> {
  for (let tries = 1; ; tries++) {
    const { code, stderr } = await lab.client.run('curl', '-sS', '--max-time', '60', '-o', '/dev/null', `http://${VIP}/`);
    if (tries === TRIES || !RESET.includes(code)) return [code, stderr];
  }
}

describe('a handshake ends with the acknowledgement of the server’s sequence number, and with nothing else', () => {
  test('SYNs from two addresses, each with a segment without flags and a wrong acknowledgement behind it', async () => {
    await using lab = new Topology({ servers: 1 });
    await lab.startBackends();
    const http = {
      listen: `${VIP}:${HTTP}`,
      servers: [`${serverAddress(0)}:${HTTP}`],
      backend: 'health_check_interval = 40\nhealth_check_timeout = 30',
    };
    const balancer = await startBalancer(lab.balancer, {
      frontends: { http },
      more: `[passthrough]\nsyn_flood_from = 0\n${SHORT}`,
      ring: LARGE_RING,
    });
    // Three times as many as a server has ports.
    const flood = await startFlood(lab, {
      port: HTTP,
      rate: 10_000,
      seconds: 20,
      count: 84_000,
      addresses: 2,
      steps: ['syn', 'none', 'ack'],
    });
    let requests = 0;
    while (flood.exit === undefined) {
      expect(await request(lab), `request ${++requests}`).toEqual([0, '']);
    }
    expect(await floodEnd(flood)).toBeGreaterThan(126_000);
    const { frontends } = await balancer.settled('every connection to end', (stats) => stats.current_connections === 0);
    expect(frontends['http']?.total_connections).toBe(requests);
    await balancer.settled('every half-open connection to be forgotten', ({ lb4 }) => lb4.flows === 0);
    expect(await balancer.metric('lb4_port_pool_ports_in_use')).toBe(0);
  });

  /** SYN and SYN+ACK, then what the client has to say. */
  async function halfOpen(pair: RawPair, then: Partial<Packet>): Promise<{ port: number; natPort: number }> {
    const port = pair.nextPort();
    pair.fromClient(port, { flags: SYN, id: port, sequence: 1000, acknowledgment: 0 });
    const { sourcePort: natPort } = await pair.atServer('the SYN', ({ flags, id }) => flags === SYN && id === port);
    pair.fromServer(natPort, { flags: SYN | ACK, sequence: 7000 });
    await pair.atClient('the SYN+ACK', port);
    pair.fromClient(port, then);
    return { port, natPort };
  }

  test('one by one: what establishes, and what does not', async () => {
    await using pair = await RawPair.start(SHORT);
    const wrong: Partial<Packet>[] = [
      { flags: 0 },
      { flags: ACK, acknowledgment: 7000 },
      { flags: ACK, acknowledgment: 0x2badcafe },
      { flags: ACK, acknowledgment: 7001 - 0x40000000 },
      { flags: ACK, acknowledgment: 0x2badcafe, payload: Buffer.from('GET / HTTP/1.0\r\n\r\n') },
      { flags: FIN, acknowledgment: 0 },
      { flags: FIN | ACK, acknowledgment: 0x2badcafe },
    ];
    for (const then of wrong) await halfOpen(pair, then);
    const right = await halfOpen(pair, { flags: ACK });
    await pair.balancer.settled('the one that is established', (stats) => stats.current_connections === 1);
    await pair.balancer.settled('the others to be forgotten', ({ lb4 }) => lb4.flows === 2);
    expect(await pair.balancer.stats()).toMatchObject({ total_connections: 1, current_connections: 1 });
    expect(await pair.carriesData(right)).toBe(true);
  });

  test('a server that repeats its SYN+ACK does not keep it half-open for longer than `syn`; the client’s SYN does', async () => {
    await using pair = await RawPair.start(SHORT);
    const { natPort } = await halfOpen(pair, { flags: SYN, sequence: 1000, acknowledgment: 0 });
    const repeating = setInterval(() => pair.fromServer(natPort, { flags: SYN | ACK, sequence: 7000 }), 200);
    try {
      await pair.balancer.settled('it to be forgotten', ({ lb4 }) => lb4.flows === 0);
    } finally {
      clearInterval(repeating);
    }
    const { port, natPort: other } = await halfOpen(pair, { flags: SYN, sequence: 1000, acknowledgment: 0 });
    // Twice as long as `syn`.
    for (let i = 0; i < 8; i++) {
      await pause(500);
      pair.fromClient(port, { flags: SYN, id: i + 1, sequence: 1000, acknowledgment: 0 });
      const again = await pair.atServer('the SYN', ({ flags, id }) => flags === SYN && id === i + 1);
      expect(again.sourcePort).toBe(other);
    }
  });
});

/** How far a forged segment is from what the other side expects: anywhere, and just outside of any window. */
const FAR = [0x80000000, 0x40000000, -0x40000000, ...Array.from({ length: 97 }, () => (1 << 27) + Math.floor(Math.random() * 0xf0000000))];

describe.concurrent.each(['passthrough', 'dsr'] as const)('%s: forged ends of an idle connection', (mode) => {
  test('it carries data long after them, and `maxconn` counts it all the time', async () => {
    await using tracked = await Tracked.start(mode, TIMEOUTS, { pairs: 12, server: 'maxconn = 1' });
    const { lab, vip, address, client, server } = tracked;
    const [outside, home] =
      mode === 'dsr' ? ([lab.namespaces.find(({ label }) => label === 'router'), 'out'] as const) : ([lab.balancer, 'front'] as const);
    const clientIs = mode === 'dsr' ? DSR_CLIENT : clientAddress(0);
    const asClient = await RawHost.attach(client, 'eth0', clientIs, {
      namespace: outside as typeof client,
      device: home,
    });
    const asServer =
      mode === 'dsr' ? undefined : await RawHost.attach(server, 'eth0', address, { namespace: lab.balancer, device: 'back' });

    type Forge = (pair: Pair) => Promise<void>;
    const fromClient =
      (flags: number): Forge =>
      async (pair) => {
        const { send, receive } = await pair.client.sequences();
        const ports = { sourcePort: pair.local, destinationPort: pair.port };
        for (const offset of FAR)
          asClient.send({ destination: vip, ...ports, flags, sequence: (send + offset) >>> 0, acknowledgment: (receive + offset) >>> 0 });
      };
    const fromServer =
      (flags: number): Forge =>
      async (pair) => {
        const { send, receive } = await pair.server.sequences();
        const ports = { sourcePort: pair.port, destinationPort: pair.seen.port };
        for (const offset of FAR)
          asServer?.send({ destination: vip, ...ports, flags, sequence: (send + offset) >>> 0, acknowledgment: (receive + offset) >>> 0 });
      };
    /** Of "port unreachable", about what the server has sent. */
    const errors: Forge = async (pair) => {
      const { send } = await pair.server.sequences();
      const about = { source: vip, sourcePort: pair.port, destination: clientIs, destinationPort: pair.local, flags: ACK };
      for (const offset of FAR) {
        const quoted = ipv4({ ...about, sequence: (send + offset) >>> 0, payload: Buffer.alloc(100) }).subarray(0, 28);
        asClient.send({ destination: vip, protocol: ICMP, type: 3, code: 3, payload: quoted });
      }
    };
    const forgers = [RST, RST | ACK, FIN | ACK, SYN, SYN | ACK].flatMap((flags) =>
      asServer === undefined ? [fromClient(flags)] : [fromClient(flags), fromServer(flags)],
    );
    forgers.push(errors);
    const pairs = await Promise.all(forgers.map(() => tracked.connected()));
    for (const [i, forge] of forgers.entries()) await forge(pairs[i]);
    // A ring that is full loses some of a burst, and nobody sends them again.
    const judged = async () => {
      if ((await tracked.balancer.verdict('dropIcmpForged')) >= FAR.length) return true;
      await errors(pairs[forgers.indexOf(errors)]);
      return false;
    };
    await waitUntil(judged, { what: 'the forged errors to be counted', every: 500 });
    for (const turn of ['at once', 'after the timeouts']) {
      for (const [i, pair] of pairs.entries()) {
        const name = `connection ${i + 1} of ${pairs.length}, ${turn}`;
        // A second connection is refused while the first one counts.
        const { code } = await client.run('curl', '-sS', '--max-time', '60', `http://${vip}:${pair.port}/`);
        expect([name, code, await pair.current()]).toEqual([name, 7, 1]);
      }
      if (turn === 'at once') await pause(LONG);
    }
    for (const pair of pairs) {
      await pair.talk();
      await pair.client.close();
      expect(await pair.server.rest()).toBe('');
      await pair.server.close();
      await pair.forgotten();
    }
  });
});

test('ports out at one server: the next one takes the connection', async () => {
  await using lab = new Topology({ servers: 2 });
  const port = 9_000;
  const over = (listen: number, count: number) => {
    const servers = [0, 1].slice(0, count).map((index) => `${serverAddress(index)}:${port}`);
    return { listen: `${VIP}:${listen}`, servers, backend: UNTALKATIVE };
  };
  await lab.servers[1].program('backend', 'server2', `http=${port}`).line(/^listening/);
  startAnswers(lab.servers[0], port);
  const balancer = await startBalancer(lab.balancer, { frontends: { one: over(81, 1), both: over(82, 2) } });
  const there = await balancer.metric('lb4_port_pool_ports', 'backend="one-out"');
  const used = () => balancer.metric('lb4_port_pool_ports_in_use', 'backend="one-out"');
  // An ACK that overtook its SYN+ACK on a busy machine leaves a half-open connection, whose port a newcomer may have.
  const halfOpen = () => balancer.metric('lb4_half_open_connections');
  while ((await used()) < there || (await halfOpen()) > 0) {
    await floodEnd(await startFlood(lab, { port: 81, rate: 8_000, seconds: 10, count: there, addresses: 1, steps: ['syn', 'open'] }));
  }
  const { code, stdout, stderr } = await lab.client.run(
    'curl',
    '-sS',
    '--max-time',
    '30',
    '-H',
    'Connection: close',
    ...Array.from({ length: 20 }, () => `http://${VIP}:82/`),
  );
  expect([code, stderr, stdout]).toEqual([0, '', 'server2\n'.repeat(20)]);
});
