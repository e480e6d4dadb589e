/**
 * What is wrong in Convey 0.3.5, defect by defect, and the tests that show that lb4 does not have it. This file only sees to
 * it that none of them gets lost.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

interface Defect {
  readonly defect: string;
  /** Under test/, and the test's title as it is written there. */
  readonly shown: readonly (readonly [file: string, title: string])[];
}

const DEFECTS: readonly Defect[] = [
  {
    defect: "replies are matched on destination port alone, never on the server's address",
    shown: [['netns/end-to-end-packets.test.ts', 'replies count only from the server that the connection is with']],
  },
  {
    defect: 'every frontend has its own port allocator over one address: connections of two frontends cross',
    shown: [['netns/end-to-end-traffic.test.ts', 'two frontends over one server, two clients, the same source ports']],
  },
  {
    defect: 'a port in use can be handed out again',
    shown: [['netns/convey-connections.test.ts', 'Convey: a port in use can be handed out again; the port map never shrinks']],
  },
  {
    defect: 'the port map never shrinks',
    shown: [['netns/convey-connections.test.ts', 'Convey: a port in use can be handed out again; the port map never shrinks']],
  },
  {
    defect: 'the tracker evicts by insertion order, so busy connections lose their port mid-stream',
    shown: [
      ['netns/convey-connections.test.ts', 'Convey: the tracker evicts by insertion order, so busy connections lose their port mid-stream'],
    ],
  },
  {
    defect: 'no FIN/RST tracking, no timeouts',
    shown: [['netns/convey-connections.test.ts', 'Convey: no FIN/RST tracking, no timeouts']],
  },
  {
    defect: 'counts need flags exactly SYN+ACK / FIN+ACK',
    shown: [['netns/convey-connections.test.ts', 'Convey: counts need flags exactly SYN+ACK / FIN+ACK']],
  },
  { defect: 'DSR counts nothing', shown: [['netns/dsr.test.ts', 'the counts are true']] },
  {
    defect: 'RST to a client when no server is up: ports are swapped wrongly',
    shown: [['netns/failure.test.ts', 'no server is up: a client is refused at once']],
  },
  {
    defect: "RST to a client when no server is up: in DSR its source address is the client's own",
    shown: [['netns/dsr.test.ts', 'with no server up, a client is refused at once, by the VIP']],
  },
  {
    defect: 'the IP protocol is never checked: UDP to the port is parsed as TCP',
    shown: [['netns/end-to-end-packets.test.ts', 'UDP to a frontend’s port is none of lb4’s business']],
  },
  {
    defect: 'packets are spread over workers round robin, so connections reorder',
    shown: [
      ['netns/convey-packets.test.ts', 'Convey: packets are spread over workers round robin, so connections reorder'],
      ['netns/order.test.ts', 'segments of concurrent downloads leave in the order they came in, and none arrives out of order'],
    ],
  },
  {
    defect: 'two workers race on a new connection',
    shown: [['netns/convey-packets.test.ts', 'Convey: two workers race on a new connection']],
  },
  {
    defect: 'reads of 4,096 bytes: GRO/GSO frames are lost',
    shown: [['netns/offloads.test.ts', 'iperf3 ${direction} with default offloads: super-packets pass whole, none is cut, none is split']],
  },
  {
    defect: 'IP_HDRINCL above the MTU: GRO/GSO frames are lost (EMSGSIZE)',
    shown: [['netns/offloads.test.ts', 'iperf3 ${direction} with default offloads: super-packets pass whole, none is cut, none is split']],
  },
  {
    defect: 'Ethernet padding is forwarded as payload',
    shown: [['netns/end-to-end-packets.test.ts', 'frames padded to 60 bytes: the padding is not taken for payload']],
  },
  {
    defect: 'TTL forced to 225',
    shown: [['netns/end-to-end-packets.test.ts', 'only addresses, ports, TTL and checksums change, in both directions']],
  },
  {
    defect: 'IP options dropped',
    shown: [['netns/end-to-end-packets.test.ts', 'IP options are kept, and a real server understands them']],
  },
  {
    defect: 'checksums recomputed over every payload',
    shown: [['netns/convey-packets.test.ts', 'Convey: checksums recomputed over every payload, so that damage on the way goes unnoticed']],
  },
  {
    // Frames are altered where they were received, and sent from there.
    defect: 'two copies a frame',
    shown: [['netns/native.test.ts', 'sends frames back out in order, refuses bad ones alone, and routes']],
  },
  { defect: 'no capture filter', shown: [['netns/convey-packets.test.ts', 'Convey: no capture filter']] },
  {
    defect: 'weights ignored by the consistent ring',
    shown: [['netns/convey-balance.test.ts', 'Convey: weights ignored by the consistent ring (%s)']],
  },
  { defect: 'IPv6 unsupported', shown: [['netns/convey-network.test.ts', 'Convey: IPv6 unsupported']] },
  { defect: 'VLAN unsupported', shown: [['kernel/kernel.test.ts', 'Convey: VLAN unsupported']] },
  { defect: 'loopback unsupported', shown: [['netns/convey-network.test.ts', 'Convey: loopback unsupported']] },
  {
    defect: 'ICMP unsupported',
    shown: [
      [
        'netns/end-to-end-packets.test.ts',
        'an ICMP error about a connection reaches its owner, quoting the connection as the owner knows it',
      ],
    ],
  },
  {
    defect: 'an unhealthy server has its live connections rescheduled mid-stream',
    shown: [
      ['netns/failure.test.ts', 'a server whose link goes down: others live on and take over'],
      ['netns/dsr.test.ts', 'a server that refuses new connections leaves selection, keeps those it has, and comes back'],
    ],
  },
  {
    defect: 'a server removed from the file has its live connections rescheduled mid-stream',
    shown: [
      ['netns/reload.test.ts', 'a removed server drains: its connections go on, new ones go elsewhere, the end of the drain ends them'],
    ],
  },
  {
    defect: "health checks run one after another while holding the pool's lock",
    shown: [['unit/health-convey.test.ts', 'checks run one after another: here a server that hangs holds up no other, whatever its check']],
  },
  {
    defect: 'health checks report success when no local port is free',
    shown: [
      [
        'unit/health-convey.test.ts',
        'success is reported when no local port is free: here nothing is known, and no server changes its state',
      ],
    ],
  },
  {
    defect: 'a malformed addr in a reloaded file panics',
    shown: [['netns/convey-files.test.ts', 'Convey: a malformed addr in a reloaded file panics (%s)']],
  },
  {
    defect: 'a bad config at start logs nothing by default and exits 0',
    shown: [['netns/convey-files.test.ts', 'Convey: a bad config at start logs nothing by default and exits 0']],
  },
  {
    defect: 'proxy: half-close not passed on',
    shown: [
      ['netns/convey-proxy.test.ts', 'Convey: half-close not passed on by the proxy, from client to server'],
      ['netns/convey-proxy.test.ts', 'Convey: half-close not passed on by the proxy, from server to client'],
      ['unit/proxy.test.ts', "a client's FIN goes on to the server, whose answer still arrives"],
      ['unit/proxy.test.ts', "a server's FIN goes on to the client, whose bytes still arrive"],
    ],
  },
  {
    defect: 'proxy: no connect timeout',
    shown: [
      ['netns/convey-proxy.test.ts', 'Convey: no connect timeout in the proxy'],
      ['unit/proxy-servers.test.ts', 'for want of an answer takes connectTimeoutMs'],
    ],
  },
  {
    defect: 'proxy: no retry',
    shown: [
      ['netns/convey-proxy.test.ts', 'Convey: no retry in the proxy'],
      ['unit/proxy-servers.test.ts', 'is tried on another server, told and counted'],
    ],
  },
  {
    defect: 'proxy: no server available leaks the connection count',
    shown: [
      ['netns/convey-proxy.test.ts', 'Convey: no server available leaks the connection count'],
      ['unit/proxy.test.ts', 'none eligible: a reset at once'],
    ],
  },
  {
    defect: 'proxy: one accept error ends the listener',
    shown: [
      ['netns/convey-proxy.test.ts', 'Convey: one accept error ends the listener'],
      ['unit/proxy-lifecycle.test.ts', 'clients wait, none is lost, and no server is blamed'],
    ],
  },
];

const read = (file: string) => readFileSync(new URL(`../${file}`, import.meta.url), 'utf8');

/** The titles in a test file: strings that something follows, since a title is never the last argument. */
function titles(file: string): string[] {
  return [...read(file).matchAll(/(['"`])((?:(?!\1).)+)\1,/g)].map(([, , title = '']) => title);
}

describe('each of Convey’s defects has its test', () => {
  test.each(DEFECTS)('$defect', ({ shown }) => {
    for (const [file, title] of shown) expect(titles(file), file).toContain(title);
  });
});

test('each test that names a defect is in the table', () => {
  const files = readdirSync(new URL('../netns', import.meta.url)).filter((name) => name.startsWith('convey-'));
  const named = files.flatMap((name) => titles(`netns/${name}`)).filter((title) => title.startsWith('Convey: '));
  const listed = DEFECTS.flatMap(({ shown }) => shown.map(([, title]) => title));
  expect(named.length).toBeGreaterThan(0);
  expect(named.filter((title) => !listed.includes(title))).toEqual([]);
});
