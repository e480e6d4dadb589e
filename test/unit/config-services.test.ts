import { describe, expect, test } from 'vitest';
import { backendProtocols, type FileProtocol, servicesOf } from '../../src/config/schema/services.ts';

const web = (protocol: FileProtocol, ip = '192.0.2.1', backend = 'web', answersPings = false) => ({ protocol, ip, backend, answersPings });

describe('a frontend stands for', () => {
  test('a service a protocol', () => {
    expect(servicesOf([web('tcp'), web('udp'), web('all', '192.0.2.2')])).toEqual([['tcp'], ['udp'], ['tcp', 'udp', 'icmp']]);
  });

  test("an address' pings once: that of icmp, else the first of all", () => {
    expect(servicesOf([web('all'), web('all'), web('all', '192.0.2.2'), web('icmp', '192.0.2.2')])).toEqual([
      ['tcp', 'udp', 'icmp'],
      ['tcp', 'udp'],
      ['tcp', 'udp'],
      ['icmp'],
    ]);
  });

  test('no pings where its servers cannot take them: another one of its address may', () => {
    expect(servicesOf([web('all', '192.0.2.1', 'web', true), web('all')])).toEqual([
      ['tcp', 'udp'],
      ['tcp', 'udp', 'icmp'],
    ]);
  });
});

test('a backend has the protocols of its frontends, in one order, and TCP where it has none', () => {
  const frontends = [web('udp'), web('icmp'), web('tcp'), web('udp', '192.0.2.1', 'dns')];
  expect([...backendProtocols(['web', 'dns', 'idle'], frontends, servicesOf(frontends))]).toEqual([
    ['web', ['tcp', 'udp', 'icmp']],
    ['dns', ['udp']],
    ['idle', ['tcp']],
  ]);
});
