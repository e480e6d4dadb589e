/**
 * A router's duties: whatever the kernel's own NAT delivers in lb4's place, lb4 delivers. Each row is one situation, tried with
 * both; what lb4 does not do is a limit that README and `lb4 doctor` name, and the row says so in `limit`.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { content, contentHash } from '../lab/content.ts';
import { Duties, type Forwarder, FRONTENDS, VIP } from '../lab/duties.ts';
import { type Namespace, ROOT } from '../lab/lab.ts';
import { waitUntil } from '../lab/wait.ts';
import { ACK, CWR, ECE, FIN, ICMP, ipv4, type Parsed, PSH, parseIpv4, type RawHost, SYN } from '../lab/wire.ts';

interface Situation {
  readonly situation: string;
  /** Throws where the packets do not arrive as they should. */
  readonly delivers: (lab: Duties) => Promise<void>;
  /** The kernel delivers, lb4 does not: the sentence of README's limits that says so. */
  readonly limit?: string;
}

const SIZE = 1_000_000;

async function upload(client: Namespace, to: keyof typeof FRONTENDS, bytes = SIZE): Promise<void> {
  const url = `http://${VIP}:${FRONTENDS[to].port}/`;
  const curl = client.start(['curl', '-sS', '--max-time', '50', '-H', 'Expect:', '--data-binary', '@-', url]);
  await curl.feed(content(bytes));
  expect(await curl.line(/^[0-9a-f]{64}$/, 50_000)).toBe(contentHash(bytes));
}

async function download(client: Namespace, from: keyof typeof FRONTENDS, bytes = SIZE): Promise<void> {
  const url = `http://${VIP}:${FRONTENDS[from].port}/content/${bytes}`;
  const { stdout } = await client.run('sh', '-c', `curl -sS --max-time 50 ${url} | sha256sum`);
  expect(stdout.slice(0, 64)).toBe(contentHash(bytes));
}

/** lb4's own account: nothing that it wanted to send was refused. */
async function nothingRefused(lab: Duties): Promise<void> {
  if (lab.lb4 !== undefined) expect((await lab.lb4.stats()).lb4.frames).toMatchObject({ transmit_failed: 0, dropped: 0 });
}

const bytes = (length: number): Buffer => Buffer.from(Array.from({ length }, (_, i) => i * 7 + (i >> 8)));
const withId =
  (id: number) =>
  (packet: Parsed): boolean =>
    packet.id === id;

let nextId = 100;

/** Sends `packet` without DF, and sees it arrive in fragments of at most `mtu` bytes. */
async function fragmented(from: RawHost, to: RawHost, mtu: number, packet: Parameters<RawHost['send']>[0]): Promise<Parsed[]> {
  const id = nextId++;
  const payload = bytes(1401);
  from.send({ ...packet, flags: ACK | PSH, payload, id, tos: 0x2e });
  const { packet: whole, fragments } = await to.expectWhole('the packet', id);
  expect(whole).toMatchObject({ payload, flags: ACK | PSH, tos: 0x2e, ttl: 63, dontFragment: false, checksumsRight: true });
  expect(fragments.length).toBeGreaterThan(1);
  for (const fragment of fragments) {
    expect(fragment.totalLength).toBeLessThanOrEqual(mtu);
    expect(fragment).toMatchObject({ checksumsRight: true, tos: 0x2e, ttl: 63, dontFragment: false });
  }
  return fragments;
}

/** Sends `packet` in two fragments, the second one first. */
function sendInPieces(from: RawHost, packet: Parameters<RawHost['send']>[0], id: number, payload: Buffer): void {
  const body = ipv4({ source: from.address, ...packet, flags: ACK | PSH, payload }).subarray(20);
  const cut = Math.ceil(body.length / 16) * 8;
  from.sendFragment({ ...packet, id, fragmentOffset: cut }, body.subarray(cut));
  from.sendFragment({ ...packet, id, moreFragments: true }, body.subarray(0, cut));
}

const situations: readonly Situation[] = [
  {
    situation: 'a packet without DF, too large for the link to its server, comes in fragments',
    delivers: async (lab) => {
      for (const [to, mtu] of [
        ['rawNarrow', 1000],
        ['rawTiny', 576],
      ] as const) {
        const { client, server, toServer } = await lab.open('rawClient', to);
        await fragmented(client, server, mtu, toServer);
      }
    },
  },
  {
    situation: 'a packet without DF, too large for the link to its client, comes in fragments',
    delivers: async (lab) => {
      const { client, server, toClient } = await lab.open('rawThin', 'rawServer');
      await fragmented(server, client, 1000, toClient);
    },
  },
  {
    situation: 'fragments have the options that belong into every one',
    delivers: async (lab) => {
      const { client, server, toServer } = await lab.open('rawClient', 'rawNarrow');
      // Router alert (RFC 2113) is copied, a timestamp (RFC 791, here full already) is not.
      const alert = Buffer.from([148, 4, 0, 0]);
      const timestamp = Buffer.from([68, 8, 13, 0, 1, 2, 3, 4]);
      const [first, ...later] = await fragmented(client, server, 1000, { ...toServer, options: Buffer.concat([alert, timestamp]) });
      expect(first?.options.subarray(0, 6)).toEqual(Buffer.concat([alert, timestamp.subarray(0, 2)]));
      for (const { options } of later) {
        expect(options.includes(alert)).toBe(true);
        expect(options.includes(timestamp.subarray(0, 2))).toBe(false);
      }
    },
  },
  {
    situation: 'a stream of super-packets without DF passes a narrow link, either way',
    delivers: async (lab) => {
      for (const host of [lab.client, lab.server]) host.sysctl('net.ipv4.ip_no_pmtu_disc', '1');
      await upload(lab.client, 'narrow');
      await download(lab.thin, 'server');
      for (const host of [lab.client, lab.server]) host.sysctl('net.ipv4.ip_no_pmtu_disc', '0');
      await nothingRefused(lab);
    },
  },
  {
    situation: 'a packet with DF, too large for the next link: its sender is told the MTU',
    delivers: async (lab) => {
      const up = await lab.open('rawClient', 'rawNarrow');
      up.client.send({ ...up.toServer, dontFragment: true, payload: bytes(1000), id: nextId });
      const down = await lab.open('rawThin', 'rawServer');
      down.server.send({ ...down.toClient, dontFragment: true, payload: bytes(1000), id: nextId });
      for (const host of [up.client, down.server]) {
        const error = await host.expect('fragmentation needed', ({ protocol }) => protocol === ICMP);
        expect(error).toMatchObject({ type: 3, code: 4, rest: 1000, checksumsRight: true });
        expect(parseIpv4(error.payload).id).toBe(nextId);
      }
      for (const host of [up.server, down.client]) expect(host.received.filter(withId(nextId))).toEqual([]);
      nextId++;
    },
  },
  {
    situation: 'a stream with DF finds its path MTU, either way',
    delivers: async (lab) => {
      await upload(lab.client, 'narrow');
      await download(lab.thin, 'server');
    },
  },
  {
    situation: 'a route with an MTU of its own counts',
    delivers: async (lab) => {
      const route = [`${FRONTENDS.rawServer.address}/32`, 'dev', 'back', 'mtu', '900'];
      lab.balancer.ip('route', 'add', ...route);
      const { client, toServer } = await lab.open('rawClient', 'rawServer');
      // lb4 hears of the route a moment later; until then packets arrive.
      let told: Parsed | undefined;
      for (let tries = 0; told === undefined && tries < 50; tries++) {
        client.send({ ...toServer, dontFragment: true, payload: bytes(1000) });
        told = await client.expect('an error', ({ protocol }) => protocol === ICMP, 200).catch(() => undefined);
      }
      lab.balancer.ip('route', 'del', ...route);
      expect(told).toMatchObject({ type: 3, code: 4, rest: 900 });
    },
  },
  {
    situation: 'super-packets to and from a server behind a link without Ethernet',
    delivers: async (lab) => {
      await upload(lab.client, 'beyond');
      await download(lab.client, 'beyond');
      await nothingRefused(lab);
    },
  },
  {
    situation: 'a super-packet while the neighbour is not resolved: all of it is there when it is',
    delivers: async (lab) => {
      const { client, server, toServer } = await lab.open('rawClient', 'rawServer');
      const neighbour = ['neigh', 'replace', server.address, 'lladdr', lab.server.mac('eth0'), 'dev', 'back', 'nud', 'permanent'];
      const payload = bytes(10_000);
      const flags = ACK | PSH | ECE | CWR;
      let pieces: Parsed[] = [];
      // With lb4 until it has noticed, too: then it cuts what the kernel is to send, which shows on the wire.
      for (let tries = 0; tries < 50 && (lab.lb4 === undefined ? tries === 0 : pieces.length <= 1); tries++) {
        lab.balancer.ip('neigh', 'del', server.address, 'dev', 'back');
        const id = nextId++ * 100;
        client.sendSuper({ ...toServer, flags, payload, id, dontFragment: true, tos: 3 }, 1448);
        const asks = () => /INCOMPLETE/.test(lab.balancer.ip('neigh', 'show', server.address));
        await waitUntil(() => asks() || server.received.some((packet) => packet.payload.length > 0), { what: 'the kernel to ask' });
        lab.balancer.ip(...neighbour);
        pieces = [];
        while (pieces.reduce((sum, piece) => sum + piece.payload.length, 0) < payload.length)
          pieces.push(await server.expect('a segment', (packet) => packet.id >= id && packet.id < id + 100));
        expect(Buffer.concat(pieces.map((piece) => piece.payload)).equals(payload)).toBe(true);
      }
      if (lab.lb4 === undefined) return;
      expect(pieces).toHaveLength(7);
      for (const [i, piece] of pieces.entries()) {
        const own = ACK | ECE | (i === 0 ? CWR : 0) | (i === 6 ? PSH : 0);
        expect(piece).toMatchObject({ flags: own, sequence: 1001 + i * 1448, tos: 3, dontFragment: true, checksumsRight: true });
        expect(piece.id).toBe((pieces[0]?.id ?? 0) + i);
      }
      await nothingRefused(lab);
    },
  },
  {
    situation: 'neighbours that are forgotten again and again under a stream of super-packets',
    delivers: async (lab) => {
      const flush = lab.balancer.start(['sh', '-c', 'while ip neigh flush dev back; do sleep 0.02; done']);
      await upload(lab.client, 'server');
      await download(lab.client, 'server');
      await flush.stop('SIGKILL');
      await nothingRefused(lab);
    },
  },
  {
    situation: 'super-packets of more than 64 KB (BIG TCP), either way',
    delivers: async (lab) => {
      const grow = (size: number) => {
        for (const host of [lab.client, lab.server]) host.sh('python3', `${ROOT}/test/lab/big-tcp.py`, 'eth0', `${size}`);
      };
      const { client, server, toServer, toClient } = await lab.open('rawClient', 'rawServer');
      const before = (await lab.lb4?.stats())?.frontends['rawServer']?.bytes_tx ?? 0;
      for (const length of [70_000, 125_000, 185_000]) {
        const payload = bytes(length);
        const flags = ACK | PSH | FIN;
        client.sendSuper({ ...toServer, flags, payload, id: nextId, dontFragment: true }, 1448);
        server.sendSuper({ ...toClient, flags, payload, id: nextId, dontFragment: true }, 1448);
        for (const host of [client, server]) {
          const pieces: Parsed[] = [];
          while (pieces.reduce((sum, piece) => sum + piece.payload.length, 0) < length)
            pieces.push(await host.expect('a segment', (packet) => packet.id >= nextId && packet.id < nextId + 1000));
          expect(Buffer.concat(pieces.map((piece) => piece.payload)).equals(payload)).toBe(true);
          expect(pieces.filter((piece) => (piece.flags & FIN) !== 0)).toEqual([pieces.at(-1)]);
        }
        nextId += 1000;
      }
      const counted = 70_000 + 125_000 + 185_000;
      await lab.lb4?.settled('every byte counted', ({ frontends }) => (frontends['rawServer']?.bytes_tx ?? 0) - before === counted);
      grow(185_000);
      await upload(lab.client, 'server');
      await download(lab.client, 'server');
      await upload(lab.client, 'beyond');
      grow(65_536);
      await nothingRefused(lab);
    },
  },
  {
    situation: 'fragments that arrive, either way, whatever their order and the next MTU',
    delivers: async (lab) => {
      const payload = bytes(2800);
      for (const to of ['rawServer', 'rawNarrow'] as const) {
        const { client, server, toServer, toClient } = await lab.open('rawClient', to);
        for (const [from, at, packet] of [
          [client, server, toServer],
          [server, client, toClient],
        ] as const) {
          const id = nextId++;
          sendInPieces(from, packet, id, payload);
          const { packet: whole } = await at.expectWhole('the packet', id);
          expect(whole).toMatchObject({ payload, flags: ACK | PSH, checksumsRight: true });
        }
      }
    },
  },
  {
    situation: 'TTL 1: time exceeded, quoting the packet, to either side',
    delivers: async (lab) => {
      const { client, server, toServer, toClient } = await lab.open('rawClient', 'rawServer');
      client.send({ ...toServer, ttl: 1, id: nextId });
      server.send({ ...toClient, ttl: 1, id: nextId });
      for (const host of [client, server]) {
        const error = await host.expect('time exceeded', ({ protocol }) => protocol === ICMP);
        expect(error).toMatchObject({ type: 11, code: 0, checksumsRight: true });
        expect(parseIpv4(error.payload)).toMatchObject({ id: nextId, source: host.address, destination: VIP });
      }
      nextId++;
    },
  },
  {
    situation: 'ICMP errors from behind either side reach the other, about the connection as that knows it',
    delivers: async (lab) => {
      const { client, server, toServer, toClient } = await lab.open('rawClient', 'rawServer');
      client.send({ ...toServer, id: nextId, payload: bytes(600) });
      server.send({ ...toClient, id: nextId, payload: bytes(600) });
      const error = { destination: VIP, protocol: ICMP, type: 3, code: 4, rest: 700 };
      for (const [here, there, sent, router] of [
        [server, client, toServer, '10.72.0.99'],
        [client, server, toClient, '10.71.0.99'],
      ] as const) {
        const arrived = await here.expect('the packet', withId(nextId));
        here.send({ ...error, source: router, payload: here.quote(arrived) });
        const told = await there.expect('the error', ({ protocol }) => protocol === ICMP);
        expect(told).toMatchObject({ type: 3, code: 4, rest: 700, checksumsRight: true });
        const { source, destination, sourcePort, destinationPort, sequence } = sent;
        expect(parseIpv4(told.payload)).toMatchObject({ source, destination, sourcePort, destinationPort, sequence, checksumsRight: true });
      }
      nextId++;
    },
  },
  {
    situation: 'everything a header may say is kept: TOS and ECN, DF, ID, options, urgent pointer, unknown TCP options',
    delivers: async (lab) => {
      const { client, server, toServer, toClient } = await lab.open('rawClient', 'rawServer');
      const tcpOptions = Buffer.from([253, 4, 0xf9, 0x89]); // experimental (RFC 4727)
      for (const [from, at, packet] of [
        [client, server, toServer],
        [server, client, toClient],
      ] as const)
        for (const more of [
          { tos: 0, dontFragment: false },
          { tos: 0xb8 | 1, dontFragment: true },
          { tos: 3, dontFragment: true, flags: ACK | ECE },
          { tos: 2, flags: ACK | CWR, window: 17, tcpOptions },
          { options: Buffer.from([1, 1, 148, 4, 0, 0, 1, 0]) },
        ]) {
          const sent = { ...more, id: nextId++, payload: bytes(33) };
          from.send({ ...packet, ...sent });
          expect(await at.expect('the packet', withId(sent.id))).toMatchObject({ ...sent, ttl: 63, checksumsRight: true });
        }
    },
  },
  {
    situation: 'short frames are padded, and the padding is not taken for data',
    delivers: async (lab) => {
      const { client, server, toServer, toClient } = await lab.open('rawClient', 'rawServer');
      for (const length of [0, 1, 5]) {
        const sent = { id: nextId++, payload: bytes(length) };
        client.send({ ...toServer, ...sent }, 60, 0xaa);
        server.send({ ...toClient, ...sent }, 60, 0xaa);
        for (const host of [client, server])
          expect(await host.expect('the packet', withId(sent.id))).toMatchObject({
            ...sent,
            totalLength: 40 + length,
            checksumsRight: true,
          });
      }
    },
  },
  {
    situation: 'a SYN that carries data',
    delivers: async (lab) => {
      const { rawClient, rawServer } = lab.raw;
      const id = nextId++;
      const ends = { destination: VIP, sourcePort: 4_000, destinationPort: FRONTENDS.rawServer.port };
      rawClient.send({ ...ends, flags: SYN, sequence: 1, id, payload: bytes(77) });
      const arrived = await rawServer.expect('the SYN', withId(id));
      expect(arrived).toMatchObject({ flags: SYN, payload: bytes(77), checksumsRight: true });
    },
  },
];

describe.each<Forwarder>(['kernel NAT', 'lb4'])('%s', (forwarder) => {
  let lab: Duties;

  beforeAll(async () => {
    lab = await Duties.start(forwarder);
  }, 60_000);

  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
  });

  test.each(situations)(
    '$situation',
    async ({ delivers, limit }) => {
      if (forwarder === 'lb4' && limit !== undefined) await expect(delivers(lab), limit).rejects.toThrow();
      else await delivers(lab);
    },
    60_000,
  );
});
