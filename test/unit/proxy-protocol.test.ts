/** The PROXY protocol: the specification's own bytes, every truncation of them, random bytes, and both directions on the wire. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { addressBytes, formatBytes } from '../../src/ip.ts';
import { parseAddress } from '../../src/packet/address.ts';
import { type Endpoints, hashableAddress } from '../../src/proxy/address.ts';
import { formatHeader, parseHeader } from '../../src/proxy/proxy-protocol.ts';
import { ask, client, idle, run, serve, waitUntil } from '../lab/proxy-lab.ts';

const SIGNATURE = '0d0a0d0a000d0a515549540a';
const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');
const v4: Endpoints = { source: '192.168.0.1', destination: '192.168.0.11', sourcePort: 56324, destinationPort: 443 };
const v6: Endpoints = { source: '2001:db8::1', destination: '2001:db8::2', sourcePort: 1, destinationPort: 65535 };
const V4_BYTES = 'c0a80001 c0a8000b dc04 01bb';
const V6_BYTES = '20010db8000000000000000000000001 20010db8000000000000000000000002 0001 ffff';
const worst = 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff';

type Good = readonly [what: string, header: Buffer, endpoints: Endpoints | undefined];
const good: readonly Good[] = [
  ['section 2.1, its example', Buffer.from('PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n'), v4],
  ['section 2.1, TCP6', Buffer.from('PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n'), v6],
  [
    'section 2.1, the longest TCP6',
    Buffer.from(`PROXY TCP6 ${worst} ${worst} 65535 65535\r\n`),
    { source: worst, destination: worst, sourcePort: 65535, destinationPort: 65535 },
  ],
  ['section 2.1, UNKNOWN', Buffer.from('PROXY UNKNOWN\r\n'), undefined],
  ['section 2.1, the longest of all, 107 bytes', Buffer.from(`PROXY UNKNOWN ${worst} ${worst} 65535 65535\r\n`), undefined],
  ['section 2.2, TCP over IPv4', hex(`${SIGNATURE} 21 11 000c ${V4_BYTES}`), v4],
  ['section 2.2, TCP over IPv6', hex(`${SIGNATURE} 21 21 0024 ${V6_BYTES}`), v6],
  ['section 2.2, TLVs are skipped', hex(`${SIGNATURE} 21 11 0013 ${V4_BYTES} 04 0004 00000000`), v4],
  ['section 2.2, LOCAL', hex(`${SIGNATURE} 20 00 0000`), undefined],
  ['section 2.2, LOCAL ignores the addresses', hex(`${SIGNATURE} 20 11 000c ${V4_BYTES}`), undefined],
  ['section 2.2, AF_UNSPEC', hex(`${SIGNATURE} 21 00 0000`), undefined],
  ['section 2.2, UDP is not for us', hex(`${SIGNATURE} 21 12 000c ${V4_BYTES}`), undefined],
  ['section 2.2, AF_UNIX', hex(`${SIGNATURE} 21 31 00d8 ${'00'.repeat(216)}`), undefined],
];

describe('a header', () => {
  test.each(good)('%s', (_, header, endpoints) => {
    expect(parseHeader(header)).toEqual({ kind: 'complete', length: header.length, endpoints });
    expect(parseHeader(Buffer.concat([header, Buffer.from('PROXY')]))).toMatchObject({ kind: 'complete', length: header.length });
    for (let length = 0; length < header.length; length++) expect(parseHeader(header.subarray(0, length))).toEqual({ kind: 'incomplete' });
  });

  test.each([
    ['another protocol', Buffer.from('GET / HTTP/1.1\r\n')],
    ['lower case', Buffer.from('proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n')],
    ['no family', Buffer.from('PROXY \r\n')],
    ['a wrong family', Buffer.from('PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n')],
    ['an IPv6 address in TCP4', Buffer.from('PROXY TCP4 ::1 ::1 1 2\r\n')],
    ['an IPv4 address in TCP6', Buffer.from('PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n')],
    ['a port with a leading zero', Buffer.from('PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n')],
    ['a port above 65535', Buffer.from('PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n')],
    ['a port too few', Buffer.from('PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n')],
    ['a word too many', Buffer.from('PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n')],
    ['two spaces', Buffer.from('PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n')],
    ['no end in 107 bytes', Buffer.from('PROXY UNKNOWN '.padEnd(107, 'x'))],
    ['version 1 in binary', hex(`${SIGNATURE} 11 11 000c ${V4_BYTES}`)],
    ['an unknown command', hex(`${SIGNATURE} 22 11 000c ${V4_BYTES}`)],
    ['too short for its addresses', hex(`${SIGNATURE} 21 11 000b ${V4_BYTES}`)],
    ['too long', hex(`${SIGNATURE} 21 11 1001`)],
  ])('malformed: %s', (_, bytes) => {
    expect(parseHeader(bytes).kind).toBe('malformed');
  });

  test('random bytes never throw, behind a signature or not; what is complete lies within them', () => {
    const start = fc.constantFrom(Buffer.alloc(0), Buffer.from('PROXY TCP4 '), hex(SIGNATURE), hex(`${SIGNATURE} 21 11 00`));
    fc.assert(
      fc.property(start, fc.uint8Array({ maxLength: 300 }), (head, tail) => {
        const bytes = Buffer.concat([head, tail]);
        const parsed = parseHeader(bytes);
        if (parsed.kind === 'complete') expect(parsed.length).toBeLessThanOrEqual(bytes.length);
      }),
      { numRuns: 2000 },
    );
  });

  test('what is written is read again', () => {
    const endpoints = (address: fc.Arbitrary<string>) =>
      fc.record({ source: address, destination: address, sourcePort: fc.nat(65535), destinationPort: fc.nat(65535) });
    fc.assert(
      fc.property(fc.oneof(endpoints(fc.ipV4()), endpoints(fc.ipV6())), fc.constantFrom('v1' as const, 'v2' as const), (ends, version) => {
        const canonical = (address: string) => formatBytes(addressBytes(address));
        const expected = { ...ends, source: canonical(ends.source), destination: canonical(ends.destination) };
        const header = formatHeader(version, ends);
        expect(parseHeader(header)).toEqual({ kind: 'complete', length: header.length, endpoints: expected });
      }),
    );
  });

  test('of unknown endpoints says so', () => {
    expect(formatHeader('v1', undefined).toString()).toBe('PROXY UNKNOWN\r\n');
    expect(formatHeader('v2', undefined)).toEqual(hex(`${SIGNATURE} 21 00 0000`));
  });

  test("the specification's bytes are those written", () => {
    expect(formatHeader('v1', v4).toString()).toBe('PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n');
    expect(formatHeader('v2', v4)).toEqual(hex(`${SIGNATURE} 21 11 000c ${V4_BYTES}`));
    expect(formatHeader('v2', v6)).toEqual(hex(`${SIGNATURE} 21 21 0024 ${V6_BYTES}`));
  });
});

test.each([
  ['192.0.2.1', 'c0000201'],
  ['::', '00'.repeat(16)],
  ['::1', `${'00'.repeat(15)}01`],
  ['fe80::1%eth0', 'fe800000000000000000000000000001'],
  ['::ffff:192.0.2.1', '00000000000000000000ffffc0000201'],
  ['1:2:3:4:5:6:7:8', '00010002000300040005000600070008'],
])('%s in bytes', (address, bytes) => {
  expect(addressBytes(address).toString('hex')).toBe(bytes);
});

test('an IPv4 address hashes as in the packet modes', () => {
  for (const address of ['192.0.2.1', '127.0.0.1', '255.255.255.255']) expect(hashableAddress(address)).toBe(parseAddress(address));
});

describe('on the wire', () => {
  test.each(['v1', 'v2'] as const)('%s tells a server of the client, before its first byte, and is no payload', async (version) => {
    const server = await serve();
    const { proxy, port } = await run({ servers: [server], backend: { sendProxy: version } });
    const one = await client(port);
    one.socket.end('hello');
    const header = formatHeader(version, {
      source: '127.0.0.1',
      destination: '127.0.0.1',
      sourcePort: one.socket.localPort!,
      destinationPort: port,
    });
    expect(await one.end).toBe('end');
    expect(one.text()).toBe(`${header.toString('latin1')}hello`);
    await idle(proxy);
    expect(proxy.frontend(3)).toMatchObject({ bytesTx: 5, bytesRx: header.length + 5 });
  });

  test('goes out though the client says nothing', async () => {
    let got = '';
    const server = await serve((socket) => socket.on('data', (chunk) => (got += chunk.toString())));
    const { port } = await run({ servers: [server], backend: { sendProxy: 'v1' } });
    await client(port);
    await waitUntil(() => got.endsWith('\r\n'), { what: 'the header' });
  });

  test('is taken from clients, in any pieces, and passed on to the server in the other version', async () => {
    const server = await serve();
    const { proxy, port } = await run({ servers: [server], frontend: { acceptProxy: true }, backend: { sendProxy: 'v1' } });
    const sent = formatHeader('v2', v6);
    for (const pieces of [[Buffer.concat([sent, Buffer.from('hello')])], [...sent].map((byte) => Buffer.of(byte))]) {
      const one = await client(port);
      for (const piece of pieces) {
        one.socket.write(piece);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      one.socket.end(pieces.length === 1 ? '' : 'hello');
      expect(await one.end).toBe('end');
      expect(one.text()).toBe(`${formatHeader('v1', v6).toString()}hello`);
    }
    await idle(proxy);
    expect(proxy.frontend(3).bytesTx).toBe(10);
  });

  test('its client is the one that is listed, found, and ended', async () => {
    const { proxy, port } = await run({ servers: [await serve()], frontend: { acceptProxy: true } });
    const one = await client(port);
    one.socket.write(formatHeader('v1', v4));
    await waitUntil(() => proxy.frontend(3).current === 1, { what: 'the connection' });
    const from = (ip: string) => ({ client: { ip, bits: 32, port: undefined } });
    expect((await proxy.flows(from('127.0.0.1'), 10)).flows).toEqual([]);
    expect((await proxy.flows(from(v4.source), 10)).flows).toMatchObject([{ client: `${v4.source}:${v4.sourcePort}` }]);
    expect([await proxy.end(from('127.0.0.1')), await proxy.end(from(v4.source))]).toEqual([0, 1]);
    expect(await one.end).toBe('reset');
  });

  test('LOCAL and UNKNOWN keep the addresses of the connection', async () => {
    const { port } = await run({ servers: [await serve()], frontend: { acceptProxy: true }, backend: { sendProxy: 'v1' } });
    for (const header of [hex(`${SIGNATURE} 20 00 0000`), Buffer.from('PROXY UNKNOWN\r\n')]) {
      const answer = await ask(port, Buffer.concat([header, Buffer.from('hello')]));
      expect(answer).toMatch(new RegExp(`^PROXY TCP4 127\\.0\\.0\\.1 127\\.0\\.0\\.1 \\d+ ${port}\r\nhello$`));
    }
  });

  test('its address is what is hashed', async () => {
    const servers = await Promise.all(['0', '1', '2', '3'].map((name) => serve((socket) => void socket.resume().end(name))));
    const { port } = await run({ servers, scheduler: 'source', frontend: { acceptProxy: true } });
    const answers = new Set<string>();
    for (let i = 0; i < 20; i++) answers.add(await ask(port, formatHeader('v1', { ...v4, source: `198.51.100.${i}` })));
    expect(answers.size).toBeGreaterThan(1);
    const again = await Promise.all(Array.from({ length: 4 }, () => ask(port, formatHeader('v1', v4))));
    expect(new Set(again).size).toBe(1);
  });

  test('a client without one is reset, and logged once', async () => {
    const server = await serve();
    const { proxy, port, warnings } = await run({ servers: [server], frontend: { acceptProxy: true } });
    for (let i = 0; i < 5; i++) {
      const one = await client(port);
      one.socket.write('GET / HTTP/1.1\r\n');
      expect(await one.end).toBe('reset');
    }
    const silent = await client(port);
    silent.socket.end();
    expect(await silent.end).toBe('reset');
    await idle(proxy);
    expect(server.sockets).toEqual([]);
    expect(warnings).toHaveLength(1);
  });

  test('a client that sends none in 5 seconds is reset', async () => {
    const { port, warnings } = await run({ servers: [await serve()], frontend: { acceptProxy: true } });
    const started = performance.now();
    const one = await client(port);
    one.socket.write('PROXY TCP4');
    expect(await one.end).toBe('reset');
    expect(performance.now() - started).toBeGreaterThan(4500);
    expect(warnings[0].fields).toMatchObject({ reason: 'no header in 5 s' });
  });
});
