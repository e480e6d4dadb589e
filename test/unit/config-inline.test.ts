/** The table [inline], and what `--inline` demands of a file: each mistake one line, with what is allowed. */
import { describe, expect, it, test } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import type { Mode } from '../../src/config/modes.ts';
import { ConfigError, formatMistake } from '../../src/errors.ts';

const REST = `
[frontends.web]
listen_addr = "10.0.0.1:80"
backend = "web"
[backends.web.servers.a]
addr = "192.0.2.2:80"
`;
const PAIR = '[inline]\nfrontends = ["eth0"]\nbackend = "eth1"\n';

function read(toml: string, mode: Mode | undefined = 'inline') {
  return parseConfig(`${toml}${REST}`, 'f', { mode, processors: 8 }).config;
}

function lines(toml: string): string[] {
  try {
    read(toml);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.mistakes.map(formatMistake);
  }
}

describe('allowed', () => {
  it('a list of interfaces', () => {
    expect(read(PAIR).inline).toEqual({ backend: 'eth1', frontends: [{ name: 'eth0', clients: [] }] });
  });

  it('src_ip_rewrite, since servers see clients in any case', () => {
    const keys = '[backends.web.src_ip_rewrite]\nclients = "10.1.0.0/24"\nas = "10.2.0.0/24"\n';
    expect(read(`${PAIR}${keys}`).backends[0]?.srcIpRewrite).toMatchObject({ as: { bits: 24 } });
    expect(() => read(`${PAIR}${keys}`, 'passthrough')).toThrow(/needed: nat = "destination"/);
  });

  it('tables with addresses and prefixes of clients', () => {
    const toml =
      '[inline]\nbackend = "br-lan.7"\n[inline.frontends.eth0]\naddress = "192.0.2.1"\n[inline.frontends.eth2]\naddress = ["10.3.0.0/16", "192.0.2.9/32"]\n';
    const clients = [
      [{ address: '192.0.2.1', bits: 32 }],
      [
        { address: '10.3.0.0', bits: 16 },
        { address: '192.0.2.9', bits: 32 },
      ],
    ];
    expect(read(toml).inline).toEqual({
      backend: 'br-lan.7',
      frontends: ['eth0', 'eth2'].map((name, i) => ({ name, clients: clients[i] })),
    });
  });

  it('one worker, whatever the processors; as many as before in other modes', () => {
    expect(read(PAIR).passthrough.workers).toBe(1);
    expect(read(PAIR, 'passthrough').passthrough.workers).toBe(4);
  });

  it('no [inline] in other modes', () => expect(read('', 'passthrough').inline).toBeUndefined());
});

test.each([
  ['', 'inline: missing; needed with --inline: a table, [inline], with the interfaces frontends = ["eth0"] and backend = "eth1"'],
  [
    '[inline]\nbackend = "eth1"\n',
    'inline.frontends: missing; needed: names of interfaces, ["eth0"], 1–32 of them; or tables, [inline.frontends.NAME]',
  ],
  ['[inline]\nfrontends = "eth0"\nbackend = "eth1"\n', '"eth0" is a string; allowed: names of interfaces'],
  ['[inline]\nfrontends = []\nbackend = "eth1"\n', 'inline.frontends: is an empty array; allowed: names'],
  ['[inline]\nfrontends = {}\nbackend = "eth1"\n', 'inline.frontends: empty; needed: at least one interface'],
  [
    '[inline]\nfrontends = ["eth0"]\nbackend = "a b"\n',
    'inline.backend: "a b" is no name of an interface; allowed: the name of an interface, "eth0"',
  ],
  [
    '[inline]\nfrontends = ["eth0"]\nbackend = "eth0"\n',
    'inline.frontends.0: "eth0" is named twice; needed: an interface of its own for each side',
  ],
  ['[inline]\nfrontends = ["eth0", "eth0"]\nbackend = "eth1"\n', 'inline.frontends.1: "eth0" is named twice'],
  [
    '[inline]\nbackend = "eth1"\nfrontends.eth0.address = "10.0.0.1/8"\n',
    '"10.0.0.1/8" is no IPv4 address or prefix; allowed: "192.0.2.1", or',
  ],
  [
    '[inline]\nbackend = "eth1"\nfrontends.eth0.address = "10.0.0.1"\nfrontends.eth2.address = ["10.0.0.1"]\n',
    'inline.frontends.eth2.address: "10.0.0.1" is behind "eth0" already; needed: each behind one interface',
  ],
  [`${PAIR}[passthrough]\nworkers = 2\n`, 'passthrough.workers: 2: --inline forwards with one worker; allowed: 0 or 1'],
  [`${PAIR}[passthrough]\ncpus = "0-1"\n`, 'passthrough.cpus: "0-1": --inline forwards with one worker; allowed: one processor'],
  [`${PAIR}[passthrough]\nio = "pcap"\n`, 'passthrough.io: "pcap": --inline has no libpcap; allowed: "ring"'],
  [`${PAIR}[backends.web]\nsource_addrs = ["192.0.2.9"]\n`, 'backends.web.source_addrs'],
])('%j is one mistake', (toml, line) => {
  expect(lines(toml)).toEqual([expect.stringContaining(line)]);
});
