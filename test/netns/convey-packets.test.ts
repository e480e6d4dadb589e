/** Convey's defects in handling packets: lb4 has none of them. */
import { expect, test } from 'vitest';
import { RawPair } from '../lab/raw-pair.ts';
import { VIP } from '../lab/topology.ts';
import { waitUntil } from '../lab/wait.ts';
import { ACK, SYN } from '../lab/wire.ts';

/** What Convey's sample has. */
const WORKERS = '[passthrough]\nworkers = 4';
/** Frames that a witness's socket buffer holds, and both ways together the ring of one worker: nobody sends them again. */
const BURST = 100;

test('Convey: packets are spread over workers round robin, so connections reorder', async () => {
  await using pair = await RawPair.start(WORKERS);
  pair.keepOrder();
  const { port, natPort } = await pair.open();
  const numbers = Array.from({ length: BURST }, (_, i) => i);
  for (let round = 0; round < 10; round++) {
    for (const id of numbers) {
      pair.fromClient(port, { flags: ACK, id });
      pair.fromServer(natPort, { flags: ACK, id });
    }
    const arrived = () => pair.server.received.length >= BURST && pair.client.received.length >= BURST;
    await waitUntil(arrived, { what: `${BURST} segments each way` });
    expect(pair.takeForwarded().map(({ id }) => id)).toEqual(numbers);
    expect(pair.client.received.splice(0).map(({ id }) => id)).toEqual(numbers);
  }
});

test('Convey: two workers race on a new connection', async () => {
  await using pair = await RawPair.start(WORKERS);
  const connections = 20;
  const ports = Array.from({ length: connections }, () => pair.nextPort());
  // Each SYN ten times, one right behind the other.
  for (const port of ports) for (let i = 0; i < 10; i++) pair.fromClient(port, { flags: SYN, id: port });
  const natPorts = new Map<number, Set<number>>();
  let seen = 0;
  await waitUntil(
    () => {
      for (const { id, sourcePort } of pair.takeForwarded()) {
        natPorts.set(id, (natPorts.get(id) ?? new Set()).add(sourcePort));
        seen++;
      }
      return seen === 10 * connections;
    },
    { what: 'all the SYNs' },
  );
  expect([...natPorts.values()].map(({ size }) => size)).toEqual(ports.map(() => 1));
  expect(new Set([...natPorts.values()].flatMap((set) => [...set])).size).toBe(connections);
  await pair.balancer.settled('two flows a connection', ({ lb4 }) => lb4.flows === 2 * connections);
});

test('Convey: checksums recomputed over every payload, so that damage on the way goes unnoticed', async () => {
  await using pair = await RawPair.start();
  const { port } = await pair.open();
  const whole = { destination: VIP, sourcePort: port, destinationPort: 8080, sequence: 1001, acknowledgment: 7001, flags: ACK };
  pair.client.sendRaw({ ...whole, payload: Buffer.from('damaged here') }, (packet) => packet.write('X', 40));
  const damaged = await pair.atServer('the damaged segment', ({ payload }) => payload.length > 0);
  expect([damaged.payload.toString(), damaged.checksumsRight]).toEqual(['Xamaged here', false]);
  pair.client.send({ ...whole, payload: Buffer.from('whole') });
  expect((await pair.atServer('the whole segment', ({ payload }) => payload.length > 0)).checksumsRight).toBe(true);
});

test('Convey: no capture filter', async () => {
  await using pair = await RawPair.start();
  // What is none of lb4's business, though it comes by its interface: ping, and TCP to a port that is not a frontend's.
  expect((await pair.lab.client.run('ping', '-q', '-c100', '-i0.002', VIP)).code).toBe(0);
  for (let i = 0; i < 100; i++) pair.client.send({ destination: VIP, sourcePort: 4_000, destinationPort: 9_999, flags: SYN });
  await pair.client.expect('the kernel’s refusal', ({ sourcePort }) => sourcePort === 9_999);
  const { syns } = await pair.open();
  // Nothing but what made that connection: SYN, SYN+ACK, ACK. Answers to health checks are the kernel's, too.
  const { lb4 } = await pair.balancer.settled('frames to be counted', (stats) => stats.lb4.frames.received >= syns + 2);
  expect(lb4.frames.received).toBe(syns + 2);
});
