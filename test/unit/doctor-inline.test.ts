/** What doctor says of the interfaces that lb4 is to stand between. */
import { expect, test } from 'vitest';
import { judgeMtus, judgePort } from '../../src/doctor/inline.ts';
import type { Interface } from '../../src/io/native.ts';

const link = (name: string, more: Partial<Interface> = {}): Interface => {
  const usual = {
    index: 7,
    name,
    mtu: 1500,
    mac: new Uint8Array(6),
    up: true,
    kind: '',
    master: 0,
    link: 0,
    callsIptables: false,
    carrier: true,
  };
  return { ...usual, ...more };
};
const [gone, tun, down, dark, port] = ['lb4-gone', 'lb4-tun', 'lb4-down', 'lb4-dark', 'lb4-port'];
const links = [
  link('lb4-well'),
  link(tun, { mac: new Uint8Array(0) }),
  link(down, { up: false, carrier: false }),
  link(dark, { carrier: false }),
  link(port, { master: 9 }),
  link('lb4-bridge', { index: 9 }),
  link('lb4-trunk', { index: 10 }),
  link('lb4-trunk.10', { index: 11, link: 10, kind: 'vlan' }),
  link('lb4-other-end', { index: 12, link: 7, kind: 'veth' }),
];

test.each([
  ['lb4-well', 'ok', 'up, and has no address'],
  [gone, 'fail', 'there is no interface lb4-gone'],
  [tun, 'fail', 'is no Ethernet interface'],
  [down, 'fail', 'lb4-down is down'],
  [dark, 'fail', 'lb4-dark has no carrier'],
  [port, 'fail', 'is a port of lb4-bridge'],
  ['lb4-trunk', 'fail', 'lb4-trunk.10 is on lb4-trunk, and would get no frame any more'],
  ['lo', 'fail', 'there is no interface lo'],
])('%s: %s', (name, level, text) => {
  expect(judgePort(name, links)).toMatchObject({ level, check: 'interface', message: expect.stringContaining(text) as string });
});

test('MTUs that differ are named, with how to make them one', () => {
  expect(judgeMtus([link('a'), link('b')])).toEqual([]);
  expect(judgeMtus([])).toEqual([]);
  expect(judgeMtus([link('a', { mtu: 9000 }), link('b')])).toMatchObject([{ level: 'warn', check: 'mtu', mend: 'ip link set a mtu 1500' }]);
});
