/** What doctor makes of a server's `status`; test/netns/glb.test.ts asks servers. */
import { expect, test } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { frontendOf, statusFinding } from '../../src/doctor/server.ts';

test.each([
  ['present lo 192.0.2.1', 'ok present lo 192.0.2.1', undefined],
  [
    'missing bpf eth0 lb4-gue-01234567',
    'fail missing bpf eth0 lb4-gue-01234567: packets are not taken out of the tunnel: clients get nothing',
    'MEND',
  ],
  ['missing lo 192.0.2.1', "fail missing lo 192.0.2.1: what comes for it is nobody's: clients get nothing", 'MEND'],
  [
    'missing mss 192.0.2.1 1420',
    'fail missing mss 192.0.2.1 1420: clients send more than fits the tunnel: uploads hang where ICMP is filtered',
    'MEND',
  ],
  ['missing rp_filter of tunl0', 'fail missing rp_filter of tunl0: the kernel drops what comes by the tunnel', 'MEND'],
  ['missing keep 192.0.2.1', 'fail missing keep 192.0.2.1: clients get no answers, or such as they do not expect', 'MEND'],
  ['stale mss 192.0.2.1 1380', 'warn stale mss 192.0.2.1 1380: of another configuration', 'MEND'],
  [
    'all shadowed by strict rp_filter of eth1',
    'fail shadowed by strict rp_filter of eth1: the kernel drops what comes by the tunnel',
    'sysctl -w net.ipv4.conf.eth1.rp_filter=2',
  ],
])('%s', (line, said, mend) => {
  const [{ level, message, mend: how }, ...more] = statusFinding(line, 'MEND');
  expect([`${level} ${message}`, how, more]).toEqual([said, mend, []]);
});

test('counters are no findings', () => expect(statusFinding('counter total_packets 5', 'MEND')).toEqual([]));

test('a frontend is asked by the tunnel that its own packets go by', () => {
  const backend = (port: number) => `dsr = "gue"\ngue_port = ${port}\nservers.s = { addr = "10.0.0.11:80" }`;
  const frontend = (name: string, port: number) => `[frontends.${name}]\nlisten_addr = "192.0.2.1:${port}"\nbackend = "${name}"`;
  const text = `${frontend('one', 80)}\n${frontend('two', 443)}\n[backends.one]\n${backend(6080)}\n[backends.two]\n${backend(6081)}\n`;
  const { config } = parseConfig(text, 'f');
  const asked = [6080, 6081, 6082].map((port) => frontendOf(config, { server: '10.0.0.11', vip: '192.0.2.1', port })?.name);
  expect(asked).toEqual(['one', 'two', undefined]);
});
