/** What doctor has to say of UDP. */
import { expect, test } from 'vitest';
import type { Config } from '../../src/config/model.ts';
import { checks } from '../../src/doctor/checks.ts';
import type { Host } from '../../src/doctor/finding.ts';
import { udpSegments } from '../../src/doctor/kernel.ts';
import { onlyProxy } from '../../src/doctor/mode.ts';

const config = (name: string, io = 'ring') => ({ backends: [{ protocol: { name: 'tcp' } }, { protocol: { name } }], passthrough: { io } });
const levels = (kernel: string, ...asked: Parameters<typeof config>) =>
  udpSegments(config(...asked) as unknown as Config, kernel).map(({ level }) => level);

test.each([
  ['6.1.0-28-amd64', ['warn']],
  ['5.15.0', ['warn']],
  ['6.2.0', ['ok']],
  ['6.12.3-rc1', ['ok']],
  ['7.0', ['ok']],
])('kernel %s and super-packets of UDP: %s', (kernel, wanted) => expect(levels(kernel, 'udp')).toEqual(wanted));

test('nobody misses them without UDP, or by libpcap', () => {
  expect([levels('5.10', 'icmp'), levels('5.10', 'udp', 'pcap')]).toEqual([[], []]);
});

test('a check that passes by silence sees nothing of hosts behind a router', () => {
  const backend = (name: string, udp: object, ip: string) => ({ name, healthCheck: { type: 'udp', udp }, servers: [{ addr: { ip } }] });
  const backends = [backend('far', {}, '10.2.0.1'), backend('near', {}, '10.1.0.1'), backend('asked', { expect: 'ok' }, '10.2.0.1')];
  const path = (address: string, neighbour: string) => ({ address, neighbour, local: false });
  const paths = [path('10.2.0.1', '10.1.0.254'), path('10.1.0.1', '10.1.0.1')];
  const found = checks({ config: { backends }, paths } as unknown as Host);
  expect(found.map(({ level, message }) => `${level} ${message}`)).toEqual([
    expect.stringMatching(/^warn backend far: server 10\.2\.0\.1 is behind a router, and its health check passes by silence/),
  ]);
});

test('proxy mode is not looked for where it would refuse the file', async () => {
  const file = (name: string) => {
    const backends = [{ protocol: { name }, servers: [] }];
    return {
      file: 'lb4.toml',
      frontends: [{ listen: { text: '127.0.0.1:53', ip: '127.0.0.1', ipNumber: 0x7f000001, family: 4 } }],
      backends,
    } as unknown as Config;
  };
  expect(await onlyProxy(file('tcp'))).toMatchObject({ message: expect.stringMatching(/^this is a look for proxy mode/) });
  expect(await onlyProxy(file('udp'))).toBeUndefined();
});
