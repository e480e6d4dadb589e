/**
 * A router's duties: whatever the kernel's own NAT delivers in lb4's place, lb4 delivers. Each row is one situation, tried with
 * both; what lb4 does not do is a limit that README and `lb4 doctor` name, and the row says so in `limit`.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Capture } from '../lab/capture.ts';
import { contentHash } from '../lab/content.ts';
import { Duties, type Forwarder, FRONTENDS, VIP } from '../lab/duties.ts';
import { type Namespace, ROOT } from '../lab/lab.ts';
import { PYTHON } from '../lab/processes.ts';
import { hashOfUpload } from '../lab/upload.ts';
import { pause, waitUntil } from '../lab/wait.ts';
import { ACK, CWR, ECE, ICMP, ipv4, type Parsed, PSH, parseIpv4, type RawHost } from '../lab/wire.ts';

interface Situation {
  readonly situation: string;
  /** Throws where the packets do not arrive as they should. */
  readonly delivers: (lab: Duties) => Promise<void>;
  /** The kernel delivers, lb4 does not: the sentence of README's limits that says so. */
  readonly limit?: string;
}

const SIZE = 1_000_000;

async function upload(client: Namespace, to: keyof typeof FRONTENDS, bytes = SIZE): Promise<void> {
  expect(await hashOfUpload(client, `http://${VIP}:${FRONTENDS[to].port}/`, bytes)).toBe(contentHash(bytes));
}

async function download(client: Namespace, from: keyof typeof FRONTENDS, bytes = SIZE): Promise<void> {
  const url = `http://${VIP}:${FRONTENDS[from].port}/content/${bytes}`;
  const { stdout } = await client.run('sh', '-c', `curl -sS --max-time 80 ${url} | sha256sum`);
  expect(stdout.slice(0, 64)).toBe(contentHash(bytes));
}

/** lb4's own account: nothing that it wanted to send was refused. */
async function nothingRefused(lab: Duties): Promise<void> {
  if (lab.lb4 !== undefined) expect((await lab.lb4.stats()).lb4.frames).toMatchObject({ transmit_failed: 0, dropped: 0 });
}

const bytes = (length: number): Buffer => Buffer.from(Array.from({ length }, (_, i) => i * 7 + (i >> 8)));

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
    situation: 'a stream with DF finds its path MTU, either way',
    delivers: async (lab) => {
      await upload(lab.client, 'narrow');
      await download(lab.thin, 'server');
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
    situation: 'super-packets of more than 64 KB (BIG TCP), either way',
    delivers: async (lab) => {
      const grow = (size: number) => {
        for (const host of [lab.client, lab.server]) host.sh(PYTHON, `${ROOT}/test/lab/big-tcp.py`, 'eth0', `${size}`);
      };
      grow(185_000);
      await upload(lab.client, 'server');
      await download(lab.client, 'server');
      await upload(lab.client, 'beyond');
      grow(65_536);
      await nothingRefused(lab);
    },
  },
  {
    situation: 'fragments that arrive, whatever their order and the next MTU',
    delivers: async (lab) => {
      const payload = bytes(2800);
      for (const to of ['rawServer', 'rawNarrow'] as const) {
        const { client, server, toServer } = await lab.open('rawClient', to);
        const id = nextId++;
        sendInPieces(client, toServer, id, payload);
        const { packet: whole } = await server.expectWhole('the packet', id);
        expect(whole).toMatchObject({ payload, flags: ACK | PSH, checksumsRight: true });
      }
    },
  },
  {
    situation: 'the host has MASQUERADE towards the servers: the first SYN, while their neighbour is not resolved, leaves as it should',
    delivers: async (lab) => {
      lab.balancer.sh('iptables', '-t', 'nat', '-A', 'POSTROUTING', '-o', 'back', '-j', 'MASQUERADE');
      try {
        // But for health checks, a minute after the start.
        const checks = 'src portrange 32768-33767';
        const filter = `tcp and src 10.72.0.1 and dst port ${FRONTENDS.server.to} and not ${checks}`;
        const arriving = await Capture.start(lab.server, 'eth0', filter);
        lab.balancer.ip('neigh', 'flush', 'dev', 'back');
        expect((await ask(lab.client, FRONTENDS.server.port)).stdout).toBe('server\n');
        // Of the kernel's own NAT the last rule decides.
        if (lab.lb4 !== undefined) expect(await arriving.lengths()).toEqual([]);
      } finally {
        lab.balancer.sh('iptables', '-t', 'nat', '-D', 'POSTROUTING', '-o', 'back', '-j', 'MASQUERADE');
      }
    },
  },
  {
    situation: 'the host has MASQUERADE towards servers behind a link without Ethernet',
    delivers: async (lab) => {
      lab.balancer.sh('iptables', '-t', 'nat', '-A', 'POSTROUTING', '-o', 'tun0', '-j', 'MASQUERADE');
      try {
        expect((await ask(lab.client, FRONTENDS.beyond.port)).stdout).toBe('beyond\n');
      } finally {
        lab.balancer.sh('iptables', '-t', 'nat', '-D', 'POSTROUTING', '-o', 'tun0', '-j', 'MASQUERADE');
      }
    },
  },
  {
    situation: 'the only server of a VIP calls that VIP, and so does a server of another',
    delivers: async (lab) => {
      expect((await ask(lab.server, FRONTENDS.server.port)).stdout).toBe('server\n');
      expect((await ask(lab.narrow, FRONTENDS.server.port)).stdout).toBe('server\n');
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
        // The more often it has not noticed, the longer it gets.
        await pause(tries * 10);
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
    situation: 'TTL 1: time exceeded, quoting the packet, to either side',
    delivers: async (lab) => {
      const { client, server, toServer, toClient } = await lab.open('rawClient', 'rawServer');
      client.send({ ...toServer, ttl: 1, id: nextId });
      server.send({ ...toClient, ttl: 1, id: nextId });
      for (const host of [client, server]) {
        // Not what has come too late for an earlier situation.
        const isAboutIt = ({ protocol, payload }: Parsed) => protocol === ICMP && parseIpv4(payload).id === nextId;
        const error = await host.expect('time exceeded', isAboutIt);
        expect(error).toMatchObject({ type: 11, code: 0, checksumsRight: true });
        expect(parseIpv4(error.payload)).toMatchObject({ source: host.address, destination: VIP });
      }
      nextId++;
    },
  },
];

/** One request of a client that knows the VIP. */
function ask(client: Namespace, port: number) {
  return client.run('curl', '-sS', '--max-time', '60', `http://${VIP}:${port}/`);
}

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
