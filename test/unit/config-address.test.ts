import { describe, expect, it } from 'vitest';
import { addressOf } from '../../src/config/address.ts';
import { parseConfig } from '../../src/config/load.ts';
import { BACKEND, check, FRONTEND, GOOD, SERVER_ADDRESS } from '../lab/config-lines.ts';

describe('refused', () => {
  it.each([
    { addr: 'foo.1:80', problem: 'is no address and no name' },
    { addr: 'foo..internal:80', problem: 'is no address and no name' },
    { addr: '-foo:80', problem: 'is no address and no name' },
    { addr: 'foo:0', problem: 'has port 0' },
    { addr: 'localhost', problem: 'has no port' },
    { addr: '', problem: 'has no port' },
    { addr: ':80', problem: 'has no address before the port' },
    { addr: '192.0.2.1', problem: 'has no port' },
    { addr: '192.0.2.1:', problem: 'has no port' },
    { addr: '192.0.2.1:0', problem: 'has port 0' },
    { addr: '192.0.2.1:65536', problem: 'has a port above 65535' },
    { addr: '192.0.2.1:-1', problem: 'has a port that is not a number, "-1"' },
    { addr: '192.0.2.1:http', problem: 'has a port that is not a number, "http"' },
    { addr: '192.0.2.1:080', problem: 'has a port with leading zeros' },
    { addr: '192.0.2.256:80', problem: 'has a number above 255 in its address' },
    { addr: '192.0.02.1:80', problem: 'has leading zeros in its address' },
    { addr: '192.0.2:80', problem: 'is not four numbers with dots between them' },
    { addr: '192.0.2.1 :80', problem: 'has white space in it' },
    { addr: '192.0.2.0/24:80', problem: 'has a prefix length or a path in it' },
    { addr: '2001:db8::1', problem: 'has more than one colon: an IPv6 address stands in brackets' },
    { addr: '2001:db8::1:80', problem: 'has more than one colon: an IPv6 address stands in brackets' },
    { addr: '[2001:db8::1]', problem: 'has no port' },
    { addr: '[2001:db8::1]:', problem: 'has no port' },
    { addr: '[2001:db8::1]80', problem: 'has something other than a port after its bracket' },
    { addr: '[2001:db8::1:80', problem: 'has no closing bracket' },
    { addr: '[2001:db8::1]:0', problem: 'has port 0' },
    { addr: '[2001:db8::g]:80', problem: 'is not an IPv6 address' },
    { addr: '[1:2:3:4:5:6:7:8:9]:80', problem: 'is not an IPv6 address' },
    { addr: '[]:80', problem: 'is not an IPv6 address' },
    { addr: '[192.0.2.1]:80', problem: 'is not an IPv6 address' },
    { addr: '[2001:db8::/32]:80', problem: 'has a prefix length in it' },
    { addr: '[fe80::1%eth0]:80', problem: 'has a zone, which is not supported' },
    { addr: '[fe80::1]:80', problem: 'is a link-local address, which is not supported' },
    { addr: '[::ffff:192.0.2.1]:80', problem: 'is an IPv4 address in IPv6 form: write 192.0.2.1' },
    { addr: '[::FFFF:c000:201]:80', problem: 'is an IPv4 address in IPv6 form: write 192.0.2.1' },
    { addr: '[::]:80', problem: 'is not the address of one host' },
    { addr: '[ff02::1]:80', problem: 'is a multicast, broadcast or reserved address' },
    { addr: '0.0.0.0:80', problem: 'is not the address of one host' },
    { addr: '224.0.0.1:80', problem: 'is a multicast, broadcast or reserved address' },
    { addr: '255.255.255.255:80', problem: 'is a multicast, broadcast or reserved address' },
  ])('server $addr $problem', ({ addr, problem }) => {
    expect(check(`${FRONTEND}\n[backends.b.servers.s]\naddr = "${addr}"`)).toEqual([
      `f:3:8: backends.b.servers.s.addr: "${addr}" ${problem}; allowed: ${SERVER_ADDRESS}`,
    ]);
  });
});

describe('one text for every spelling', () => {
  it.each([
    ['[::1]:80', '::1'],
    ['[2001:DB8::0001]:443', '2001:db8::1'],
    ['[2001:db8:0:0:0:0:0:1]:443', '2001:db8::1'],
    // RFC 5952: the longest run of zeros, the first of equals, and never a single zero.
    ['[2001:db8:0:0:1:0:0:1]:1', '2001:db8::1:0:0:1'],
    ['[2001:db8:0:1:1:1:1:1]:1', '2001:db8:0:1:1:1:1:1'],
    ['[64:ff9b::192.0.2.1]:1', '64:ff9b::c000:201'],
    ['[fec0::1]:1', 'fec0::1'],
  ])('%s is %s', (text, ip) => {
    const port = Number(text.split(']:')[1]);
    expect(addressOf(text)).toEqual({ text: `[${ip}]:${port}`, ip, family: 6, ipNumber: 0, port });
  });

  it('and IPv4 has but one', () => {
    expect(addressOf('192.0.2.1:80')).toEqual({ text: '192.0.2.1:80', ip: '192.0.2.1', family: 4, ipNumber: 0xc0000201, port: 80 });
  });
});

describe('where frontends listen', () => {
  const on = (listen: string) => check(`frontends.a={listen_addr="${listen}",backend="b"}\n${BACKEND}`);

  it.each(['0.0.0.0:80', '[::]:80', '[::1]:80'])('%s is fine', (listen) => expect(on(listen)).toEqual([]));
  it.each(['224.0.0.1:80', '[ff02::1]:80', '[fe80::1]:80', '[::ffff:1.2.3.4]:80'])('%s is not', (listen) =>
    expect(on(listen)).toHaveLength(1),
  );
});

describe('where the statistics are', () => {
  it.each([
    ['::1', '[::1]:7000'],
    ['[0::1]', '[::1]:7000'],
    ['::', '[::]:7000'],
    ['127.0.0.1', '127.0.0.1:7000'],
  ])('%s: at %s', (address, text) => {
    expect(parseConfig(`${GOOD}stats.address = "${address}"`, 'f').config.stats?.listen.text).toBe(text);
  });

  it.each([
    ['::g', 'is not an IPv6 address'],
    ['::ffff:127.0.0.1', 'is an IPv4 address in IPv6 form: write 127.0.0.1'],
    ['localhost', 'is a hostname'],
    ['[::1', 'has no closing bracket'],
  ])('%s %s', (address, problem) => {
    const allowed = 'allowed: an IPv4 or IPv6 address, "127.0.0.1" or "::1"';
    expect(check(`${FRONTEND}\n${BACKEND}\nstats.address="${address}"`)).toEqual([
      `f:3:15: stats.address: "${address}" ${problem}; ${allowed}`,
    ]);
  });
});
