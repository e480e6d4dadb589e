/** Convey's defects in following connections, each by packets made by hand: lb4 has none of them. */
import { describe, expect, test } from 'vitest';
import { type Opened, RawPair } from '../lab/raw-pair.ts';
import { waitUntil } from '../lab/wait.ts';
import { ACK, FIN, PSH, RST, SYN } from '../lab/wire.ts';

/** Source ports that lb4 has for one server: 33768–61000. */
const PORTS = 27_233;
/** SYNs sent before the server is looked at: a witness's socket buffer holds no more frames than some 250. */
const BURST = 200;
/** From here on, client ports that RawPair does not use. */
const FIRST_NEW_CLIENT = 10_000;

const ECE = 0x40;
const CWR = 0x80;

/** Sends the SYNs of `BURST` clients, from the port `first` on. Returns the ports that lb4 chose for them, as the server saw them. */
async function burst(pair: RawPair, first: number): Promise<number[]> {
  const chosen: number[] = [];
  for (let i = 0; i < BURST; i++) pair.fromClient(first + i, { flags: SYN });
  const all = () => {
    chosen.push(...pair.takeForwarded().map(({ sourcePort }) => sourcePort));
    return chosen.length >= BURST || pair.client.received.length > 0;
  };
  await waitUntil(all, { what: 'a burst of SYNs', timeout: 500, every: 1 }).catch(() => undefined); // the witness lost some
  return chosen;
}

/** The same with more SYNs than there are ports: none is refused. */
async function moreThanTheirPorts(pair: RawPair): Promise<number[]> {
  const chosen: number[] = [];
  for (let sent = 0; sent < PORTS + 10 * BURST; sent += BURST) chosen.push(...(await burst(pair, FIRST_NEW_CLIENT + sent)));
  expect(pair.client.received).toEqual([]);
  return chosen;
}

test('Convey: a port in use can be handed out again; the port map never shrinks', async () => {
  // An eighth of `syn` is what a handshake has that waits among many: longer than a slow machine takes for so many SYNs.
  await using pair = await RawPair.start('[passthrough]\nsyn_flood_from = 0\n[passthrough.timeouts]\nsyn = 600');
  const first = await pair.open();
  const chosen = await moreThanTheirPorts(pair);
  expect(chosen).not.toContain(first.natPort);
  // Handshakes that are never completed hold a quarter of the ports; a port comes back as the one that has rested longest.
  const share = Math.ceil(PORTS / 4);
  await pair.balancer.settled('handshakes at their bound', ({ lb4 }) => lb4.half_open === share && lb4.flows === 2 * (share + 1));
  expect(new Set(chosen.slice(-share)).size).toBe(Math.min(share, chosen.length));
  expect(await pair.carriesData(first)).toBe(true);

  await pair.reload('[passthrough]\nsyn_flood_from = 0\n[passthrough.timeouts]\nsyn = 1');
  await pair.balancer.settled('the unanswered to be forgotten', ({ lb4 }) => lb4.flows === 2);
  pair.client.received.length = 0;
  const again = await burst(pair, FIRST_NEW_CLIENT);
  const haveCome = () => again.push(...pair.takeForwarded().map(({ sourcePort }) => sourcePort)) > BURST / 2;
  await waitUntil(haveCome, { what: 'half of a burst' });
  expect(new Set([first.natPort, ...again]).size).toBe(1 + again.length);
  expect(await pair.carriesData(first)).toBe(true);
});

test('Convey: the tracker evicts by insertion order, so busy connections lose their port mid-stream', async () => {
  const capacity = 10;
  await using pair = await RawPair.start(`[passthrough]\nconnection_tracker_capacity = ${capacity}\n[passthrough.timeouts]\nsyn = 600`);
  const first = await pair.open();
  for (let i = 0; i < 5 * capacity; i++) pair.fromClient(pair.nextPort(), { flags: SYN });
  // Of handshakes the oldest makes way for the newest; a connection for none.
  await pair.verdict('opened', 1 + 5 * capacity);
  await pair.balancer.settled('a full table', ({ lb4 }) => lb4.flows === 2 * capacity && lb4.half_open === capacity - 1);
  expect(await pair.carriesData(first)).toBe(true);
});

describe('Convey: no FIN/RST tracking, no timeouts', () => {
  const ends: [what: string, timeouts: string, end: (pair: RawPair, connection: Opened) => void][] = [
    [
      'a connection that both sides have closed is forgotten',
      'time_wait = 1',
      (pair, { port, natPort }) => {
        pair.fromClient(port, { flags: FIN | ACK });
        pair.fromServer(natPort, { flags: FIN | ACK });
      },
    ],
    ['a connection that was reset is forgotten', 'closed = 1', (pair, { port }) => pair.fromClient(port, { flags: RST })],
    ['a connection that is silent is forgotten', 'established = 1', () => undefined],
  ];

  test.each(ends)('%s', async (_, timeouts, end) => {
    await using pair = await RawPair.start(`[passthrough.timeouts]\n${timeouts}`);
    const connection = await pair.open();
    // Not that it is there: the silent one may be gone before anybody looks.
    await pair.balancer.settled('the connection to be counted', (stats) => stats.total_connections === 1);
    end(pair, connection);
    const stats = await pair.balancer.settled('the connection to be forgotten', ({ lb4 }) => lb4.flows === 0);
    expect([stats.total_connections, stats.current_connections]).toEqual([1, 0]);
    pair.fromClient(connection.port, { flags: ACK });
    expect(await pair.verdict('resetUnknown', 1)).toBe(1);
  });
});

test('Convey: counts need flags exactly SYN+ACK / FIN+ACK', async () => {
  await using pair = await RawPair.start();
  // A handshake with ECN (RFC 3168 section 6.1.1), and FINs that push data.
  const { port, natPort } = await pair.open({ synFlags: ECE | CWR, answerFlags: ECE });
  await pair.balancer.settled('the connection to be counted', (stats) => stats.current_connections === 1);
  pair.fromClient(port, { flags: FIN | PSH | ACK | ECE, payload: Buffer.from('the last') });
  pair.fromServer(natPort, { flags: FIN | PSH | ACK, payload: Buffer.from('the last') });
  const stats = await pair.balancer.settled('its end to be counted', ({ current_connections }) => current_connections === 0);
  expect(stats.total_connections).toBe(1);
});
