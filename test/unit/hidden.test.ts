/** Programs of this host that a packet mode's rules hide: what /proc says of real sockets. */
import { expect, test } from 'vitest';
import { hiddenListeners } from '../../src/rules/hidden.ts';
import { listen, portOf } from '../lab/health-lab.ts';

test.each([
  ['127.0.0.1', '127.0.0.1', true],
  ['127.0.0.1', '127.0.0.2', false],
  ['0.0.0.0', '127.0.0.2', true],
  ['::', '127.0.0.2', true],
  ['::1', '127.0.0.1', false],
  ['::ffff:127.0.0.1', '127.0.0.1', true],
])('who listens at %s is hidden by a frontend at %s: %s', async (host, ip, isHidden) => {
  const port = portOf(await listen(host));
  const place = { ip, port };
  expect(hiddenListeners([place, { ip, port: port === 1 ? 2 : 1 }])).toEqual(isHidden ? [place] : []);
});

test('a connection that is open is no listener', async () => {
  const table = '  sl  local_address rem_address   st\n   0: 0100007F:0050 0100007F:9C40 01 00000000:00000000\n';
  expect(hiddenListeners([{ ip: '127.0.0.1', port: 80 }], [table])).toEqual([]);
  expect(hiddenListeners([{ ip: '127.0.0.1', port: 80 }], [table.replace(' 01 ', ' 0A ')])).toHaveLength(1);
});
