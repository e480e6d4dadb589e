/** Where somebody listens: an address, a port and a protocol. */
import { expect, test } from 'vitest';
import { EndpointMap } from '../../src/forward/endpoints.ts';
import { Pools } from '../../src/forward/pools.ts';
import { parseAddress } from '../../src/packet/address.ts';
import { TCP } from '../../src/packet/fields.ts';

const UDP = 17;
const address = parseAddress('192.0.2.1');
const at = (port: number, protocol: number) => ({ address, port, protocol });

test('what listens for another protocol on the same address and port is another endpoint', () => {
  const map = new EndpointMap([
    { ...at(53, TCP), index: 7 },
    { ...at(53, UDP), index: 8 },
    { ...at(80, TCP), index: 9 },
  ]);
  expect([map.find(address, 53, TCP), map.find(address, 53, UDP), map.find(address, 80, TCP)]).toEqual([7, 8, 9]);
  expect([map.find(address, 80, UDP), map.find(address, 53, 0), map.find(address + 1, 53, UDP)]).toEqual([-1, -1, -1]);
});

test('a port above 32767 and the last protocol keep apart', () => {
  const map = new EndpointMap([
    { ...at(65535, 255), index: 0 },
    { ...at(65535, TCP), index: 1 },
  ]);
  expect([map.find(address, 65535, 255), map.find(address, 65535, TCP), map.find(address, 65535, UDP)]).toEqual([0, 1, -1]);
});

test('a server has ports of its own in each protocol, and they go one by one', () => {
  const pools = new Pools();
  const source = parseAddress('192.0.2.9');
  const [first, second] = [TCP, UDP].map((protocol) => pools.indexOf(source, at(53, protocol)));
  expect(second).not.toBe(first);
  expect(pools.indexOf(source, at(53, UDP))).toBe(second);
  pools.retain(({ protocol }) => protocol === UDP);
  expect([pools.at(first), pools.size]).toEqual([undefined, 1]);
  expect(pools.indexOf(source, at(53, UDP))).toBe(second);
});
