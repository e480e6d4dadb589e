/** Both ends' TCP is none the wiser: whatever they agree on, and every header that they send, arrives but for addresses, ports, TTL and checksums. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import { type Balancer, SLOW, startBalancer } from '../lab/balancer.ts';
import { Capture } from '../lab/capture.ts';
import { type Peer, Peers } from '../lab/peer.ts';
import { HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { waitUntil } from '../lab/wait.ts';

const PORT = 90;
const HOOKS = fastPathObstacle() === undefined ? ['off', 'tc', 'xdp'] : ['off'];
/** More than a window without scaling. */
const PATTERN = 800_000;

describe.each(HOOKS)('fast_path = %s', (fastPath) => {
  const lab = new Topology({ servers: 1 });
  const [server] = lab.servers;
  let balancer: Balancer;
  let clients: Peers;
  /** It takes one connection after the other. */
  let other: Peer;
  let local = 20_000;

  beforeAll(async () => {
    if (fastPath === 'xdp') lab.likeHardware();
    for (const end of [lab.client, server]) {
      end.sysctl('net.ipv4.tcp_ecn', '1');
      // No segment is put together with another one before tcpdump sees it.
      end.sh('ethtool', '-K', 'eth0', 'gro', 'off', 'tso', 'off', 'gso', 'off');
    }
    await lab.startBackends();
    const web = {
      listen: `${VIP}:${PORT}`,
      servers: [`${serverAddress(0)}:${PORT}`],
      backend: `${SLOW}\nhealth_check = "tcp"\nhealth_check_port = ${HTTP}`,
    };
    balancer = await startBalancer(lab.balancer, { frontends: { web }, more: `[passthrough]\nfast_path = "${fastPath}"` });
    clients = await Peers.start(lab.client);
    other = (await Peers.start(server)).add();
    await other.listen(PORT);
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  /** What both wires have shown of what `deed` does with a new connection. */
  async function seenAtBoth(deed: (client: Peer) => Promise<void>): Promise<readonly [string[], string[]]> {
    const at = (namespace: typeof server) => Capture.start(namespace, 'eth0', `tcp port ${PORT}`);
    const captures = await Promise.all([at(lab.client), at(server)]);
    const client = clients.add();
    const accepted = other.accept();
    await client.connect(VIP, PORT, local++);
    await accepted;
    await deed(client);
    await client.close();
    await other.close();
    await balancer.settled('the connection to end', ({ current_connections: current }) => current === 0);
    // With its last acknowledgement, behind the last FIN: the server waits for that.
    const states = ['-Htan', 'state', 'connected', 'exclude', 'time-wait', `sport = :${PORT}`];
    await waitUntil(() => server.sh('ss', ...states) === '', { what: 'the server to have heard the last of it' });
    const [first, second] = await Promise.all(captures.map((capture) => capture.stop('-S', '-v')));
    return [first.map(headers), second.map(headers)];
  }

  test('every header of a connection arrives as it was sent: options, ECN, windows, timestamps, urgent data, identification', async () => {
    const [atClient, atServer] = await seenAtBoth(async (client) => {
      for (let i = 0; i < 5; i++) {
        await client.send(`question ${i}`);
        expect(await other.receive(10)).toBe(`question ${i}`);
        await other.send(`answer ${i}`);
        expect(await client.receive(8)).toBe(`answer ${i}`);
      }
      await client.urgent('now!');
      expect(await other.receiveUrgent()).toBe('!');
      expect(await other.receive(3)).toBe('now');
      await client.end();
      expect(await other.rest()).toBe('');
      await other.send('after the end');
      expect(await client.receive(13)).toBe('after the end');
    });
    expect(atServer.toSorted()).toEqual(atClient.toSorted());
    const [syn, answer] = atServer;
    expect(syn).toMatch(/\[SEW\].* options \[mss 1460,sackOK,TS val \d+ ecr 0,nop,wscale \d+\]/);
    expect(answer).toMatch(/\[S\.E\].* options \[mss 1460,sackOK,TS val \d+ ecr \d+,nop,wscale \d+\]/);
    expect(atServer.filter((line) => /tos 0x2,ECT\(0\)/.test(line)).length).toBeGreaterThan(10);
    expect(atServer.filter((line) => /\[P?\.?U/.test(line) || / urg /.test(line)).length).toBeGreaterThan(0);
  });

  test('large transfers both ways by scaled windows; what is lost is asked for by SACK', async () => {
    server.sh('nft', LOSS);
    const [, atServer] = await seenAtBoth(async (client) => {
      const [sent, received] = [client.sendPattern(PATTERN), other.receivePattern(PATTERN)];
      expect(await received).toBe(true);
      await sent;
      expect((await Promise.all([other.sendPattern(PATTERN), client.receivePattern(PATTERN)]))[1]).toBe(true);
    });
    server.sh('nft', 'delete table netdev loss');
    expect(atServer.some((line) => /sack 1 \{/.test(line))).toBe(true);
  });

  test('both close at once; one resets', async () => {
    await seenAtBoth(async (client) => {
      await Promise.all([client.end(), other.end()]);
      expect(await Promise.all([client.rest(), other.rest()])).toEqual(['', '']);
    });
    await seenAtBoth(async (client) => {
      await client.reset();
      await expect(other.receive(1)).rejects.toThrow('ECONNRESET');
    });
  });
});

/** One data segment in forty of those that reach the server is lost behind its wire. */
const LOSS = `table netdev loss { chain in { type filter hook ingress device eth0 priority 0; tcp dport ${PORT} ip length > 1000 numgen inc mod 40 == 7 drop; }; }`;

/** What must be the same on both sides. */
function headers(line: string): string {
  const [, tos, id, flags, tcp = line] = /\((tos \S+), .*(id \d+), .*(flags \[.*?\]), proto TCP.*?(Flags .*)/.exec(line) ?? [];
  return `${tos} ${id} ${flags} ${tcp.replace(/cksum \S+ \(.*?\), /, '')}`;
}
