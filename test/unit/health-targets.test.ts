/** From a configuration to checks. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadConfig, parseConfig } from '../../src/config/load.ts';
import type { Mode } from '../../src/config/modes.ts';
import { endpointOf, type Target } from '../../src/health/check.ts';
import { type Reach, targetFor } from '../../src/health/targets.ts';
import { Members } from '../../src/service/members.ts';
import { assertReloadable } from '../../src/service/reload.ts';
import { leavingOf, targetsOf } from '../../src/service/targets.ts';
import { target } from '../lab/health-lab.ts';

function firstTarget(keys: string, reach?: Reach) {
  const directory = mkdtempSync(join(tmpdir(), 'lb4-targets-'));
  const file = join(directory, 'lb4.toml');
  writeFileSync(
    file,
    `[frontends.www]\nlisten_addr = "127.0.0.1:8080"\nbackend = "web"\n[backends.web]\n${keys}\n[backends.web.servers.one]\naddr = "192.0.2.1:80"\n`,
  );
  const backend = loadConfig(file).config.backends[0];
  rmSync(directory, { recursive: true });
  const target = targetFor('web / one', backend, backend.servers[0], reach);
  if (target === undefined) throw new Error('it is not checked');
  return target;
}

test('a TCP check with its times', () => {
  const keys =
    'health_check_interval = 2\nhealth_check_timeout = 1\nhealth_check_rise = 3\nhealth_check_fall = 4\nhealth_check_jitter = 0.2';
  expect(firstTarget(keys, { sourceAddress: '127.0.0.1' })).toEqual({
    id: 'web / one',
    address: '192.0.2.1',
    port: 80,
    sourceAddress: '127.0.0.1',
    check: { type: 'tcp' },
    intervalMs: 2000,
    jitter: 0.2,
    timeoutMs: 1000,
    rise: 3,
    fall: 4,
  });
});

test('an HTTP check', () => {
  const keys = 'health_check = "http"\nhealth_check_path = "/up"\nhealth_check_status = "200-299,401"\nhealth_check_host = "a.example"';
  const status = [
    [200, 299],
    [401, 401],
  ];
  expect(firstTarget(keys).check).toEqual({ type: 'http', path: '/up', status, host: 'a.example' });
});

test('a list of checks, in its order, and a server that leaves it has one again', () => {
  const more = firstTarget('health_check = ["tcp", "http"]\nhealth_check_path = "/up"');
  expect([more.check, more.also]).toEqual([{ type: 'tcp' }, [{ type: 'http', path: '/up', status: [[200, 399]], host: undefined }]]);
  expect(firstTarget('health_check = ["tcp"]')).not.toHaveProperty('also');
});

test.each(['v1', 'v2', undefined] as const)(
  'an HTTP check sends the PROXY header that servers get, not the one of the file: %s',
  (sendProxy) => {
    expect(firstTarget('health_check = "http"\nsend_proxy = "v2"', { sendProxy }).check).toMatchObject({ type: 'http', sendProxy });
  },
);

test('only proxy mode has checks with a PROXY header', () => {
  const text =
    'frontends.a={listen_addr="192.0.2.1:80",backend="b"}\n[backends.b]\nsend_proxy="v1"\nhealth_check="http"\nservers.s.addr="192.0.2.2:80"';
  const headers = (['proxy', 'passthrough', 'dsr'] as const).map((mode) => {
    const [{ check }] = targetsOf(parseConfig(text, 'f').config, mode);
    return check?.type === 'http' && check.sendProxy;
  });
  expect(headers).toEqual(['v1', undefined, undefined]);
});

test('the packet modes check from the first frontend, and know the addresses of the others', () => {
  const listens = ['192.0.2.1:80', '192.0.2.1:81', '192.0.2.3:80'];
  const frontends = listens.map((listen, i) => `frontends.f${i}={listen_addr="${listen}",backend="b"}\n`).join('');
  const { config } = parseConfig(`${frontends}[backends.b]\nservers.s.addr="192.0.2.9:80"`, 'f');
  const sources = (['passthrough', 'dsr', 'proxy'] as const).map((mode) => {
    const [{ sourceAddress, otherSources }] = targetsOf(config, mode) as [Target];
    return [sourceAddress, otherSources];
  });
  expect(sources).toEqual([
    ['192.0.2.1', ['192.0.2.3']],
    ['192.0.2.1', ['192.0.2.3']],
    [undefined, []],
  ]);
});

test('DSR: where a server rewrites its answers, who would be checked from elsewhere is checked from the address that they may go to as they are', () => {
  const text = `
    frontends={a={listen_addr="192.0.2.1:80",backend="nat"},b={listen_addr="192.0.2.2:80",backend="ipip"},c={listen_addr="192.0.2.2:81",backend="l2"}}
    backends.nat.servers.s.addr="192.0.2.9:80"
    backends.ipip={dsr="ipip",servers={s.addr="192.0.2.9:80",t.addr="192.0.2.8:80"}}
    backends.l2={dsr="l2",health_check_port=80,servers={s.addr="192.0.2.9:81",t.addr="192.0.2.8:81"}}`;
  const { config } = parseConfig(text, 'f', { mode: 'dsr' });
  const sources = (mode: Mode) => targetsOf(config, mode).map(({ id, sourceAddress }) => [id, sourceAddress]);
  expect(sources('dsr')).toEqual([
    ['nat / s / 192.0.2.9:80', '192.0.2.1'],
    ['ipip / s / 192.0.2.9:80', '192.0.2.1'],
    ['ipip / t / 192.0.2.8:80', undefined],
    ['l2 / s / 192.0.2.9:81', '192.0.2.1'],
    ['l2 / t / 192.0.2.8:81', undefined],
  ]);
  expect(sources('proxy').filter(([, source]) => source !== undefined)).toEqual([]);
});

test('a command, with the names of its server', () => {
  const { check, sourceAddress } = firstTarget('health_check = "exec"\nhealth_check_command = ["/bin/check", "-q"]');
  expect(check).toEqual({ type: 'exec', command: ['/bin/check', '-q'], env: { LB4_BACKEND: 'web', LB4_SERVER: 'one' } });
  expect(sourceAddress).toBeUndefined();
});

test('another port than the one that is served: asked of there, known by its own', () => {
  expect(firstTarget('health_check_port = 8080')).toMatchObject({ port: 8080, serverPort: 80, asked: 'at port 8080' });
  expect(firstTarget('').serverPort).toBeUndefined();
});

test('a datagram, as text or in hexadecimal, and what is expected of the answer', () => {
  const keys = 'health_check = "udp"\nhealth_check_send = "hex:00fF41"\nhealth_check_expect = "süß"';
  expect(firstTarget(keys).check).toEqual({ type: 'udp', send: Buffer.from([0, 0xff, 0x41]), expect: Buffer.from('süß') });
  expect(firstTarget('health_check = "udp"').check).toEqual({ type: 'udp', send: Buffer.alloc(0), expect: undefined });
});

test('who is not to be checked is no target', () => {
  const frontend = 'frontends.a={listen_addr="192.0.2.1:80",backend="b"}';
  const { config } = parseConfig(`${frontend}\n[backends.b]\nhealth_check="none"\nservers.s.addr="192.0.2.2:80"`, 'f');
  expect(targetsOf(config, 'passthrough')).toEqual([]);
});

test('addresses of both families with their port', () => {
  expect(endpointOf(target(80))).toBe('127.0.0.1:80');
  expect(endpointOf(target(80, { address: '2001:db8::1' }))).toBe('[2001:db8::1]:80');
});

test('a server of datagrams that leaves the file is checked while its flows may go on, one of TCP is not', () => {
  const file = (...servers: string[]) => {
    const frontends = ['tcp', 'udp'].map(
      (protocol) => `frontends.${protocol}={listen_addr="192.0.2.1:53",protocol="${protocol}",backend="b"}`,
    );
    return parseConfig([...frontends, ...servers.map((addr, i) => `backends.b.servers.s${i}.addr="${addr}"`)].join('\n'), 'f').config;
  };
  const members = new Members(file('192.0.2.2:53', '192.0.2.3:53'));
  const after = file('192.0.2.2:53');
  members.enrol(after);
  const targets = targetsOf(after, 'passthrough', leavingOf(members));
  expect(targets.map(({ id, sourceAddress }) => [id, sourceAddress])).toEqual([
    ['b / s0 / 192.0.2.2:53', '192.0.2.1'],
    ['b / s0 / 192.0.2.2:53/udp', '192.0.2.1'],
    ['b / s1 / 192.0.2.3:53/udp', '192.0.2.1'],
  ]);
});

test('a reload does not take from servers the sight of their clients: their connections would be lost', () => {
  const file = (nat: string) => {
    return parseConfig(`frontends.a={listen_addr="192.0.2.1:53",backend="b"}\nbackends.b={nat="${nat}",servers.s.addr="192.0.2.2:53"}`, 'f')
      .config;
  };
  const [full, destination] = [file('full'), file('destination')];
  expect(() => assertReloadable(destination, full, 'passthrough')).toThrow(
    /^f: backends\.b\.nat: servers would no longer see their clients/,
  );
  for (const [before, after, mode] of [
    [full, destination, 'passthrough'],
    [destination, destination, 'passthrough'],
    [destination, full, 'dsr'],
  ] as const)
    expect(() => assertReloadable(before, after, mode)).not.toThrow();
});
