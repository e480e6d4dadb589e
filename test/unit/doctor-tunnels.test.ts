/** What doctor has to say of the way to servers behind tunnels. */
import { expect, test } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { addresses } from '../../src/doctor/addresses.ts';
import type { Host } from '../../src/doctor/finding.ts';
import { actNat } from '../../src/doctor/kernel.ts';
import { type Ping, tunnels } from '../../src/doctor/tunnels.ts';

const FILE = `frontends.web = { listen_addr = "192.0.2.1:80", backend = "web" }
backends.web = { dsr = "DSR", servers.a = { addr = "10.2.0.1:80" } }
`;

/** Its lines where packets of so many bytes arrive, of all that it asks. */
async function lines(dsr: string, largest: number): Promise<string[]> {
  const { config } = parseConfig(FILE.replace('DSR', dsr), 'f', { mode: 'dsr' });
  const paths = [{ address: '10.2.0.1', link: 'eth0', local: false, mtu: 1500 }];
  const ping: Ping = (_server, bytes) =>
    Promise.resolve(bytes <= largest ? { end: 'answered', ms: 1, says: undefined } : { end: 'silent', error: undefined });
  const found = await tunnels({ config, mode: 'dsr', paths } as unknown as Host, ping);
  return found.map(({ level, message }) => `${level} ${message}`);
}

test.each([
  ['gue', 1500, "ok packets of 1500 bytes reach server 10.2.0.1, so clients' packets of 1460 bytes do"],
  ['ipip', 1500, "ok packets of 1500 bytes reach server 10.2.0.1, so clients' packets of 1480 bytes do"],
  ['gue', 1400, 'fail server 10.2.0.1 answers small pings, and none of 1500 bytes'],
  ['gue', 0, 'ok server 10.2.0.1 answers no pings'],
])('%s where %i bytes arrive: %s', async (dsr, largest, wanted) =>
  expect(await lines(dsr, largest)).toEqual([expect.stringContaining(wanted)]),
);

test('nobody asks where there is no tunnel', async () => expect(await lines('nat', 0)).toEqual([]));

test.each([
  ['nat', ['act_nat'], 'ip address add 192.0.2.1/PREFIX dev DEVICE'],
  ['l2', [], 'ip address add 192.0.2.1/PREFIX dev DEVICE'],
  ['gue', [], 'ip address add 192.0.2.1/32 dev lo'],
  ['ipip', [], 'ip address add 192.0.2.1/32 dev lo'],
])('%s: whether servers rewrite, and where the address goes', (dsr, looks, mend) => {
  const { config } = parseConfig(FILE.replace('DSR', dsr), 'f', { mode: 'dsr' });
  expect(actNat('dsr', config).map(({ check }) => check)).toEqual(looks);
  expect(addresses({ config, mode: 'dsr', own: new Map(), paths: [] } as unknown as Host)).toEqual([expect.objectContaining({ mend })]);
});

test('act_nat is looked for where no file tells, in DSR alone', () => {
  expect([actNat('dsr', undefined).length, actNat('passthrough', undefined).length]).toEqual([1, 0]);
});
