/**
 * The legal ways to end, reopen, resume, repeat and reorder that Linux can be made to show: each keeps working through lb4's
 * tracking, and lb4 forgets each connection soon after its end, though a silent one may live for two hours.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ONCE, type Pair, Tracked } from '../lab/tracked.ts';
import { pause, waitUntil } from '../lab/wait.ts';

/** Seconds: of those that must not run out in the course of a test, longer than a busy machine is late. */
const TIMEOUTS = { syn: 3, established: 7_440, fin: 3, time_wait: 1, closed: 1 };
/** Longer than any of them but `established`, and a round of the sweep. */
const LONG = 4_500;
const PATTERN = 400_000;
const NEAR_WRAP = 2 ** 32 - 50_000;

describe.concurrent.each(['passthrough', 'dsr'] as const)('%s', (mode) => {
  let tracked: Tracked;

  beforeAll(async () => {
    tracked = await Tracked.start(mode, TIMEOUTS);
  });

  afterAll(async () => {
    const exit = await tracked?.balancer.stop();
    await tracked?.[Symbol.asyncDispose]();
    expect(exit).toEqual({ code: 0, signal: null });
  });

  /** A way to end (or not): the connection is forgotten in the end. */
  function way(name: string, body: (pair: Pair) => Promise<void>, isn?: number): void {
    test.concurrent(name, async () => {
      const pair = await tracked.connected(isn);
      await body(pair);
      await pair.forgotten();
    });
  }

  /** The same from before the handshake on. */
  function fromStart(name: string, body: (pair: Pair) => Promise<void>): void {
    test.concurrent(name, async () => {
      const pair = await tracked.pair();
      await body(pair);
      await pair.forgotten();
    });
  }

  /** What only full NAT can see: the server's half. */
  const wayOfNat = mode === 'dsr' ? () => undefined : way;

  async function bothClose({ client, server }: Pair): Promise<void> {
    await client.close();
    expect(await server.rest()).toBe('');
    await server.close();
  }

  /** The server closes first, and rests in TIME-WAIT; the client is done. */
  async function serverCloses(pair: Pair): Promise<void> {
    await pair.server.close();
    expect(await pair.client.rest()).toBe('');
    await pair.client.close();
    await pair.over('client');
  }

  /** Silent for longer than the timeouts of whatever is no connection, and still there. */
  async function livesOn(pair: Pair): Promise<void> {
    await pause(LONG);
    expect(await pair.current()).toBe(1);
    await pair.talk();
  }

  describe('ends', () => {
    way('the client closes first', async (pair) => {
      expect(await pair.current()).toBe(1);
      await bothClose(pair);
    });

    way('the server closes first', serverCloses);

    way('the client has said all; the server goes on for longer than the timeout `fin`', async ({ client, server }) => {
      await client.end();
      for (let i = 0; i < LONG / 250; i++) {
        await server.send('more');
        expect(await client.receive(4)).toBe('more');
        await pause(250);
      }
      await server.close();
      expect(await client.rest()).toBe('');
      await client.close();
    });

    way('the server has said all; the client goes on for longer than the timeout `fin`', async ({ client, server }) => {
      await server.end();
      for (let i = 0; i < LONG / 250; i++) {
        await client.send('more');
        expect(await server.receive(4)).toBe('more');
        await pause(250);
      }
      await client.close();
      expect(await server.rest()).toBe('');
      await server.close();
    });

    way('the client resets', async ({ client, server }) => {
      await client.reset();
      await expect(server.receive(1)).rejects.toThrow('ECONNRESET');
    });

    wayOfNat('the server resets', async ({ client, server }) => {
      await server.reset();
      await expect(client.receive(1)).rejects.toThrow('ECONNRESET');
    });

    way('the client has said all, and the server resets', async ({ client, server }) => {
      await client.end();
      expect(await server.rest()).toBe('');
      await server.reset();
      await expect(client.receive(1)).rejects.toThrow('ECONNRESET');
    });

    way('the client has said all, and resets', async ({ client, server }) => {
      await client.end();
      expect(await server.rest()).toBe('');
      await client.reset();
      await server.close();
    });

    way('the client closes with data unread: a reset', async ({ client, server }) => {
      await server.send('unread');
      expect(await client.receive(1)).toBe('u');
      await client.close();
      await expect(server.receive(1)).rejects.toThrow('ECONNRESET');
    });

    wayOfNat('the server closes with data unread: a reset', async ({ client, server }) => {
      await client.send('unread');
      expect(await server.receive(1)).toBe('u');
      await server.close();
      await expect(client.receive(1)).rejects.toThrow('ECONNRESET');
    });

    way('the client resets when the server’s window is full', async ({ client, server }) => {
      while ((await client.fill(1_000_000)) > 0) await pause(100);
      await client.reset();
      await expect(server.rest()).rejects.toThrow('ECONNRESET');
    });

    way('the client resets amid a download', async ({ client, server }) => {
      expect(await server.fill(50_000_000)).toBeGreaterThan(50_000);
      expect(await client.receive(20_000)).toHaveLength(20_000);
      await client.reset();
      await expect(server.receive(1)).rejects.toThrow('ECONNRESET');
    });

    way('the client resets behind data that nobody has acknowledged', async (pair) => {
      const loss = pair.lose('toServer');
      await pair.client.send('x'.repeat(5_000));
      await pair.client.reset();
      await pair.forgotten();
      loss.end();
    });

    way('the client vanishes behind its FIN and data that nobody has acknowledged', async (pair) => {
      pair.lose('toServer');
      const end = pair.lose('toServer', 'tcp flags & fin == fin'); // the later rule sees it first
      await pair.client.finish('x'.repeat(5_000));
      await waitUntil(() => end.count() > 0, { what: 'the FIN behind lb4', every: 20 });
      // Its kernel repeats both for minutes: nothing of it arrives any more.
      pair.lose('toBalancer');
    });

    way('the client loses its memory: its kernel resets what the server says next', async ({ client, server }) => {
      await client.vanish();
      await server.send('hello?');
      await expect(server.receive(1)).rejects.toThrow('ECONNRESET');
    });

    way('the last acknowledgement is lost, and the FIN comes again', async (pair) => {
      await pair.client.close();
      expect(await pair.server.rest()).toBe('');
      const loss = pair.lose('toBalancer', `tcp flags & (ack | fin) == ack ${ONCE}`);
      await pair.server.close();
      await pair.over('server');
      loss.end();
    });

    way('the FIN overtakes the data', async (pair) => {
      // The four bytes behind 52 of headers. What was said before them is not long ago, then.
      const loss = pair.lose('toBalancer', `ip length 56 ${ONCE}`);
      await pair.talk();
      await pair.client.finish('late');
      expect(await pair.server.rest()).toBe('late');
      expect(loss.count()).toBe(1);
      await pair.server.close();
      loss.end();
    });

    way(
      'sequence numbers pass zero, then the client resets',
      async ({ client, server }) => {
        const arrived = server.receivePattern(PATTERN);
        await client.sendPattern(PATTERN);
        expect(await arrived).toBe(true);
        await client.reset();
        await expect(server.receive(1)).rejects.toThrow('ECONNRESET');
      },
      NEAR_WRAP,
    );

    way(
      'sequence numbers pass zero, then the client closes',
      async (pair) => {
        const arrived = pair.server.receivePattern(PATTERN);
        await pair.client.sendPattern(PATTERN);
        expect(await arrived).toBe(true);
        await bothClose(pair);
      },
      NEAR_WRAP,
    );
  });

  describe('opens', () => {
    fromStart('nobody says anything for longer than the timeout `syn`, then the server is first', async (pair) => {
      await pair.connect();
      await pause(LONG);
      expect(await pair.current()).toBe(1);
      await pair.server.send('welcome');
      expect(await pair.client.receive(7)).toBe('welcome');
      await pair.talk();
      await bothClose(pair);
    });

    fromStart('the handshake’s ACK is lost on its way to lb4', async (pair) => {
      const loss = pair.lose('toBalancer', `tcp flags & (syn | ack) == ack ${ONCE}`);
      await pair.open();
      loss.end();
      await livesOn(pair);
      await bothClose(pair);
    });

    fromStart('the handshake’s ACK is lost behind lb4', async (pair) => {
      const loss = pair.lose('toServer', `tcp flags & (syn | ack) == ack ${ONCE}`);
      await pair.open();
      loss.end();
      await livesOn(pair);
      await bothClose(pair);
    });

    fromStart('the SYN is lost behind lb4, and the SYN+ACK on its way to the client', async (pair) => {
      const losses = [pair.lose('toServer', `tcp flags & syn == syn ${ONCE}`), pair.lose('toClient', `tcp flags & syn == syn ${ONCE}`)];
      await pair.open();
      for (const loss of losses) loss.end();
      await livesOn(pair);
      await bothClose(pair);
    });

    fromStart('with TCP Fast Open, data in the SYN', async (pair) => {
      const { client, server } = pair;
      const taken = () => Number(/TCPFastOpenActive +(\d+)/.exec(tracked.client.sh('nstat', '-asz', 'TcpExtTCPFastOpenActive'))?.[1]);
      // The first brings the cookie (RFC 7413 section 4.1.1).
      for (let turn = 0; turn < 2; turn++) {
        const before = taken();
        const accepted = server.accept();
        // The client's first acknowledgement is of the server's answer, too.
        const loss = turn === 0 ? undefined : pair.lose('toBalancer', `tcp flags & (syn | ack) == ack ${ONCE}`);
        await client.fastOpen(tracked.vip, pair.port, pair.local + turn, 'question');
        await accepted;
        expect(await server.receive(8)).toBe('question');
        await server.send('answer');
        expect(await client.receive(6)).toBe('answer');
        loss?.end();
        if (turn === 1) {
          expect(taken()).toBeGreaterThan(before);
          await livesOn(pair);
        }
        await bothClose(pair);
        await pair.forgotten();
      }
    });

    // Nobody can send to a port that lb4 has not chosen yet: the server learns it from the SYN that its kernel does not get.
    const both = mode === 'dsr' ? test.skip : test.concurrent;
    both('from both sides (RFC 9293 section 3.5, figure 7)', async () => {
      const pair = await tracked.pair({ listening: false });
      const { client, server, port, local } = pair;
      const loss = pair.lose('atServer', 'tcp flags & (syn | ack) == syn');
      const wire = tracked.server.start(['tcpdump', '-l', '-n', '-i', 'eth0', `dst port ${port} and tcp[tcpflags] == tcp-syn`]);
      await wire.line(/listening on/);
      const connected = client.connect(tracked.vip, port, local);
      const [, chosen] = / (?:\d+\.){4}(\d+) > /.exec(await wire.line(/ > /)) ?? [];
      await server.connect(tracked.vip, Number(chosen), port);
      await connected;
      loss.end();
      await wire.stop('SIGINT');
      await pair.talk();
      await livesOn(pair);
      await bothClose(pair);
      await pair.forgotten();
    });
  });

  describe('opens again from the same port', () => {
    way(
      'at once after the server’s FIN, with a lower sequence number: the server is in TIME-WAIT',
      async (pair) => {
        await serverCloses(pair);
        await pair.open(1_000);
        await livesOn(pair);
        await bothClose(pair);
      },
      3_000_000_000,
    );

    way('at once after the server’s FIN, with the kernel’s own sequence number', async (pair) => {
      await serverCloses(pair);
      await pair.open();
      await livesOn(pair);
      await bothClose(pair);
    });

    way('at once after its reset', async (pair) => {
      await pair.client.reset();
      await expect(pair.server.receive(1)).rejects.toThrow('ECONNRESET');
      await pair.open();
      await livesOn(pair);
      await bothClose(pair);
    });

    way(
      'at once after its reset, with a lower sequence number',
      async (pair) => {
        await pair.client.reset();
        await expect(pair.server.receive(1)).rejects.toThrow('ECONNRESET');
        await pair.open(1_000);
        await livesOn(pair);
        await bothClose(pair);
      },
      3_000_000_000,
    );

    wayOfNat('at once after the server’s reset', async (pair) => {
      await pair.server.reset();
      await expect(pair.client.receive(1)).rejects.toThrow('ECONNRESET');
      await pair.open();
      await livesOn(pair);
      await bothClose(pair);
    });

    way('after it has lost its memory: the server still knows the old one (RFC 9293 section 3.5.1)', async (pair) => {
      await pair.client.vanish();
      const connected = pair.client.connect(tracked.vip, pair.port, pair.local);
      await expect(pair.server.receive(1)).rejects.toThrow('ECONNRESET');
      await connected;
      await pair.server.accept();
      await pair.talk();
      await livesOn(pair);
      await bothClose(pair);
    });
  });

  way('10 % of all segments are lost, both ways', async (pair) => {
    const { client, server } = pair;
    // By number, not by lot: seven in a row that are the same segment, each time it is sent again, make it a minute (measured: 2 of 240 pairs waited in vain).
    const some = 'numgen inc mod 10 == 0';
    const losses = [pair.lose('toBalancer', some), pair.lose('toServer', some), pair.lose('toClient', some)];
    const [up] = await Promise.all([server.receivePattern(PATTERN), client.sendPattern(PATTERN)]);
    const [down] = await Promise.all([client.receivePattern(PATTERN), server.sendPattern(PATTERN)]);
    expect([up, down]).toEqual([true, true]);
    await bothClose(pair);
    await pair.over('server');
    for (const loss of losses) loss.end();
  });

  test.sequential('without timestamps, at once after the server’s FIN with a lower sequence number: the server refuses, and then gives way', async () => {
    const { client, server } = tracked;
    for (const host of [client, server]) host.sysctl('net.ipv4.tcp_timestamps', '0');
    const pair = await tracked.connected(3_000_000_000);
    await serverCloses(pair);
    await pair.open(1_000);
    await livesOn(pair);
    await bothClose(pair);
    await pair.forgotten();
    for (const host of [client, server]) host.sysctl('net.ipv4.tcp_timestamps', '1');
  });

  test.sequential('in the end the table is empty', async () => {
    await tracked.balancer.settled('no flow', ({ lb4 }) => lb4.flows === 0);
  });
});

// By themselves, since they must not be late.
describe('on time', () => {
  // The later both ends are seen waiting, the longer they wait before they send their FINs again: lb4 must not have forgotten them by then.
  test.concurrent.each(['passthrough', 'dsr'] as const)(
    '%s: both close at once: each is sent the other’s FIN only after its own',
    async (mode) => {
      await using tracked = await Tracked.start(mode, { ...TIMEOUTS, fin: 60, time_wait: 60 }, { pairs: 1 });
      const pair = await tracked.connected();
      const losses = [pair.lose('atServer', 'tcp flags & fin == fin'), pair.lose('atClient', 'tcp flags & fin == fin')];
      await Promise.all([pair.client.close(), pair.server.close()]);
      await pair.bothAre('FIN-WAIT-1');
      for (const loss of losses) loss.end();
      // Both take part in the other's end (RFC 9293 section 3.6, CLOSING): otherwise one of them would not rest in TIME-WAIT.
      await pair.bothAre('TIME-WAIT');
    },
  );

  test.concurrent.each(['passthrough', 'dsr'] as const)(
    '%s: probes keep a connection alive that says nothing for longer than `established`',
    async (mode) => {
      await using tracked = await Tracked.start(mode, { ...TIMEOUTS, established: 5 }, { pairs: 3 });
      const [byClient, byServer, silent] = await Promise.all([tracked.connected(), tracked.connected(), tracked.connected()]);
      await byClient.client.keepAlive(1);
      await byServer.server.keepAlive(1);
      await silent.forgotten();
      await pause(LONG);
      for (const pair of [byClient, byServer]) {
        expect(await pair.current()).toBe(1);
        await pair.talk();
      }
    },
  );
});
