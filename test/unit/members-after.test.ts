/** What is written of frontends and servers for the next lb4, and what it makes of what it finds. */
import { createHash } from 'node:crypto';
import { afterEach, expect, test, vi } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import type { Logger } from '../../src/log.ts';
import { Members } from '../../src/service/members.ts';
import { membersAfter, textOf, VERSION } from '../../src/service/members-file.ts';

afterEach(() => void vi.restoreAllMocks());

/** Every key that is written. */
const FULL = `
[frontends.web]
listen_addr = "192.0.2.1:80"
backend = "app"
[backends.app]
balance = "maglev"
send_proxy = "v2"
source_addrs = ["192.0.2.1"]
health_check = "http"
health_check_host = "example.org"
[backends.app.servers]
a = { addr = "10.0.0.1:80" }
[frontends.other]
listen_addr = "192.0.2.1:81"
backend = "exec"
[backends.exec]
health_check = "exec"
health_check_command = ["/bin/true"]
[backends.exec.servers]
b = { addr = "10.0.0.2:80" }
`;
const { config } = parseConfig(FULL, 'test.toml');
const LESS = parseConfig(FULL.slice(FULL.indexOf('[frontends.other]')), 'test.toml').config;

function logger() {
  const warnings: unknown[][] = [];
  const log = { warn: (...line: unknown[]) => void warnings.push(line) } as unknown as Logger;
  return { log, warnings };
}

/** As if one had left and was gone, and one was leaving. */
function used(): Members {
  const time = vi.spyOn(performance, 'now').mockReturnValue(0);
  const members = new Members(config);
  const books = { frontend: counted, server: counted };
  members.enrol(LESS);
  for (let i = 1; i <= 3; i++) {
    time.mockReturnValue(i * 5000);
    members.expire(books);
  }
  members.enrol(config);
  members.enrol(LESS);
  return members;
}

const counted = () => ({ total: 1, current: 0, bytesTx: 2, bytesRx: 3, load: 0 });

/** Where a value has what: `a.b[]: number`. */
function shape(value: unknown, path = ''): string[] {
  if (Array.isArray(value)) return value.flatMap((item) => shape(item, `${path}[]`));
  if (typeof value !== 'object' || value === null) return [`${path}: ${typeof value}`];
  return Object.entries(value).flatMap(([key, item]) => shape(item, `${path}.${key}`));
}

/** Of each version. Whoever changes what is written raises VERSION, and adds a line. */
const SHAPES: Readonly<Record<number, string>> = {
  1: 'b6d8bd92d11bf50b',
  2: '4b318c0b19cf4717',
  3: '8538062822a65b4b',
};

test('what is written has the shape that its version stands for', () => {
  const written = [...new Set(shape(JSON.parse(textOf(used().state()))))].sort();
  expect(written).toMatchSnapshot();
  expect(createHash('sha256').update(written.join('\n')).digest('hex').slice(0, 16)).toBe(SHAPES[VERSION]);
});

test('what was written is gone on with', () => {
  const { log, warnings } = logger();
  const before = used();
  const next = membersAfter(LESS, 'passthrough', log, () => textOf(before.state()));
  expect(next.state()).toEqual(JSON.parse(JSON.stringify(before.state())));
  expect(warnings).toEqual([]);
});

/** The state with one thing in it replaced. */
const spoilt = (change: (state: ReturnType<Members['state']>) => object) =>
  JSON.stringify({ version: VERSION, state: change(used().state()) });

test.each([
  ['nothing', () => undefined, 'what it has written is not there'],
  ['no JSON', () => '{', /JSON/],
  ['another version', () => '{"version":99,"state":{}}', `it has written version 99, this lb4 writes version ${VERSION}`],
  ['a state of nothing', () => `{"version":${VERSION},"state":{}}`, /./],
  ['no backends', () => spoilt((state) => ({ ...state, backends: [] })), /./],
  ['backends with a name alone', () => spoilt((state) => ({ ...state, backends: state.backends.map(({ name }) => ({ name })) })), /./],
  [
    'servers without an address',
    () => spoilt((state) => ({ ...state, servers: withItems(state.servers, () => ({ backend: 'app', server: { name: 'a' } })) })),
    /./,
  ],
  ['an index twice', () => spoilt((state) => ({ ...state, servers: withIndex(state.servers, 0) })), 'server 0 is there twice'],
])('%s: one line, and everybody gets a new index', (_, read, reason) => {
  const { log, warnings } = logger();
  const members = membersAfter(LESS, 'passthrough', log, read);
  expect(members.state()).toEqual(new Members(LESS).state());
  expect(warnings).toEqual([
    [
      { reason: typeof reason === 'string' ? reason : expect.stringMatching(reason) },
      'which frontends and servers an lb4 that died had cannot be told: their connections may be lost',
    ],
  ]);
});

type Servers = ReturnType<Members['state']>['servers'];

function withItems(servers: Servers, item: () => object): object {
  return {
    ...servers,
    allocations: servers.allocations.map((one) => ({ ...one, phase: 'leaving', member: { ...one.member, item: item() } })),
  };
}

function withIndex(servers: Servers, index: number): object {
  return { ...servers, allocations: servers.allocations.map((one) => ({ ...one, index })) };
}
