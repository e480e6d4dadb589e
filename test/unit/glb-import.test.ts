/** GLB's files as one for lb4: what comes of them, and what is told. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { ConfigError, formatMistake, messageOf } from '../../src/errors.ts';
import { importGlb } from '../../src/import/glb.ts';

const fixture = (name: string) => ({ name, text: readFileSync(new URL(`../fixtures/glb/${name}`, import.meta.url), 'utf8') });
const told = ({ lost }: ReturnType<typeof importGlb>) => lost.map(({ file = 't', line, text, why }) => `${file}:${line}: ${text}: ${why}`);

test('what a site has becomes a file that lb4 check passes', async () => {
  const made = importGlb(fixture('forwarding_table.src.json'), fixture('director.conf'));
  // Whether packets are wrapped by now is not this test's.
  await expect(made.toml.replaceAll(/^.*(dsr|source_addr).*\n/gm, '')).toMatchFileSnapshot('../fixtures/glb/forwarding_table.toml');
  const { config, warnings } = parseConfig(made.toml, 'f', { mode: 'dsr' });
  expect(made.doubts.map(formatMistake)).toEqual([
    expect.stringMatching(/^director\.conf:3:\d+: warning: outbound_src_ip: it is one director's own, and becomes source_addr: change /),
  ]);
  expect(warnings.map(({ message }) => message)).toEqual([expect.stringMatching(/^server "192.168.60.1" is not active either/)]);
  expect(
    config.backends.map(
      ({ name, glb, servers }) =>
        `${name} ${glb?.hashFields.join()} ${servers.map(({ name: ip, state = 'active' }) => `${ip} ${state}`).join()}`,
    ),
  ).toEqual([
    'example1-80 source,source_port 192.168.50.10 active,192.168.50.11 draining',
    'example1-80/udp source,source_port 192.168.50.10 active,192.168.50.11 draining',
    'example1-443 source,source_port 192.168.50.10 active,192.168.50.11 draining',
    'table-2 source,source_port 192.168.60.1 draining,192.168.60.2 inactive',
  ]);
});

test.each<[string, number, number, number, number, string]>([
  ['frontends', 5, 256, 1, 2, 'a.json:6:1: tables[4]: with this table more than 1,024 frontends come of it'],
  ['servers', 17, 1, 1, 256, 'a.json:18:1: tables[16]: with this table more than 4,096 servers come of it'],
  ['servers of one table with many ports', 1, 256, 256, 256, 'a.json:2:1: tables[0]: with this table more than 4,096 servers come of it'],
  ['tables', 1025, 1, 1, 1, 'a.json:1026:1: tables[1024]: this is one too many: the file has 1025 tables; allowed: at most 1024'],
])('too many %s are one line, before anything is made of them', (_, tables, binds, ports, servers, line) => {
  const numbered = (count: number, of: (i: number) => string) => Array.from({ length: count }, (__, i) => of(i)).join();
  const keys = '"hash_key": "12345678901234561234567890123456", "seed": "34567890123456783456789012345678"';
  const all = numbered(tables, (table) => {
    const bind = (i: number) => `{"ip": "10.${table % 256}.${table >> 8}.${i}", "proto": "tcp", "port": ${80 + (i % ports)}}`;
    const backend = (i: number) => `{"ip": "172.16.${table % 256}.${i}", "state": "active"}`;
    return `\n{${keys}, "binds": [${numbered(binds, bind)}], "backends": [${numbered(servers, backend)}]}`;
  });
  const text = `{"tables": [${all}]}`;
  expect(() => importGlb({ name: 'a.json', text }, undefined)).toThrow(expect.objectContaining({ mistakes: [expect.anything()] }) as Error);
  expect(() => importGlb({ name: 'a.json', text }, undefined)).toThrow(line);
});

describe('a table', () => {
  const table = (more: string) =>
    `{"tables": [{"hash_key": "12345678901234561234567890123456", "seed": "34567890123456783456789012345678",\n${more}}]}`;
  const BIND = '"binds": [{"ip": "1.1.1.1", "proto": "tcp", "port": 80}]';

  test('without a check has servers that are well', () => {
    const { toml, doubts } = importGlb(
      { name: 't', text: table(`${BIND},\n"backends": [{"ip": "1.2.3.4", "state": "active"}]`) },
      undefined,
    );
    expect(parseConfig(toml, 'f', { mode: 'dsr' }).config.backends[0]?.healthCheck.type).toBe('none');
    expect(doubts.map(formatMistake)).toEqual([
      't:3:14: warning: healthy is missing: lb4, which is to check none of them, takes that for healthy, and directors for unhealthy: their rows differ',
    ]);
  });

  test('that names no address that lb4 can serve is refused', () => {
    const binds = '"binds": [{"ip": "fdb4::1", "proto": "tcp", "port": 80}]';
    const make = () => importGlb({ name: 't', text: table(`${binds},\n"backends": []`) }, undefined);
    expect(make).toThrow(ConfigError);
    expect(() => make()).toThrow(
      't:2:1: tables[0].binds[0]: lb4 forwards packets of IPv4 alone\nt:1:1: tables[0]: no address of it can be carried over\nt: nothing',
    );
  });

  test('that is checked through the tunnel alone is so by lb4, at the port that packets go to', () => {
    const gue = (healthy: boolean) => `"state": "active", "healthy": ${healthy}, "healthchecks": {"gue": 19524}`;
    const backends = `"backends": [{"ip": "1.2.3.4", ${gue(true)}},\n{"ip": "1.2.3.5", ${gue(false)}}]`;
    const made = importGlb({ name: 't', text: table(`${BIND},\n${backends}`) }, undefined);
    expect(told(made)).toEqual(['t:3: tables[0].backends[0]: healthchecks.gue: lb4 asks at 19523, the port that packets go to']);
    const [backend] = parseConfig(made.toml, 'f', { mode: 'dsr' }).config.backends;
    expect(backend?.healthCheck).toMatchObject({ type: 'gue', rise: 3, timeoutMs: 1000 });
    expect(backend?.servers.map(({ state }) => state)).toEqual([undefined, undefined]);
  });

  test('that is not checked has servers that are as the file says', () => {
    const backends = '"backends": [{"ip": "1.2.3.4", "state": "active", "healthy": false}]';
    const made = importGlb({ name: 't', text: table(`${BIND},\n${backends}`) }, undefined);
    const [backend] = parseConfig(made.toml, 'f').config.backends;
    expect([backend?.healthCheck.type, backend?.servers[0]?.state]).toEqual(['none', 'draining']);
  });

  test('with servers that are checked otherwise than the first one is told so', () => {
    const checks = (http: number) => `"state": "active", "healthchecks": {"http": ${http}, "gue": 19523}`;
    const backends = `"backends": [{"ip": "1.2.3.4", ${checks(81)}},\n{"ip": "1.2.3.5", ${checks(82)}},\n{"ip": "1.2.3.6", "state": "active"}]`;
    const made = importGlb({ name: 't', text: table(`${BIND},\n${backends}`) }, undefined);
    const alike = 'healthchecks: the servers of a backend are checked alike: as 1.2.3.4';
    expect(told(made)).toEqual([`t:4: tables[0].backends[1]: ${alike}`, `t:5: tables[0].backends[2]: ${alike}`]);
    expect(parseConfig(made.toml, 'f').config.backends[0]?.healthCheck).toMatchObject({
      type: 'gue',
      also: ['http'],
      port: 81,
      rise: 3,
      intervalMs: 2000,
    });
  });
});

test.each([
  ['{}', 'd:1: all'],
  ['{"forward_icmp_ping_responses": null}', 'd:1: forward_icmp_ping_responses'],
  ['{"forward_icmp_ping_responses": false}', undefined],
])('a director that says %s of pings', (text, place) => {
  const pings = told(importGlb(fixture('table.json'), { name: 'd', text })).filter((line) => line.includes('icmp'));
  const line = `${place}: directors have servers answer pings, unless forward_icmp_ping_responses is false; here this host does, but for `;
  expect(pings).toEqual(place === undefined ? [] : [expect.stringContaining(line)]);
});

test('a director without a field to hash, and keys that nobody knows, are told', () => {
  const text = '{"hash_fields": {"src_addr": false}, "statsd_prot": 1}';
  const make = () => importGlb(fixture('table.json'), { name: 'd', text });
  try {
    make();
    expect.unreachable();
  } catch (error) {
    expect((error as ConfigError).mistakes.map(formatMistake)).toEqual(messageOf(error).split('\n'));
    expect(messageOf(error).split('\n')).toEqual([
      'd:1:17: hash_fields: has no field that is true; needed: one of src_addr, dst_addr, src_port, dst_port',
      'd:1:53: warning: statsd_prot: unknown key, ignored; did you mean "statsd_port"?',
    ]);
  }
});
