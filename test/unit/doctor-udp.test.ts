/** What doctor has to say of UDP. */
import { expect, test } from 'vitest';
import type { Config } from '../../src/config/model.ts';
import { udpSegments } from '../../src/doctor/kernel.ts';

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
