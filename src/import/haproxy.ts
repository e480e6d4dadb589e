/** A configuration of HAProxy (its manual, version 2.6 to 3.0) in lb4's words: what it balances in `mode tcp`. */
import { Draft, type Given, type Line, type Table } from './draft.ts';
import { finish, type Imported } from './finish.ts';
import { type Bind, bindsOf } from './haproxy-binds.ts';
import { checkPort, parametersOf } from './haproxy-parameters.ts';
import { type ServerLine, takeServers } from './haproxy-servers.ts';
import { Settings, TLS_CHECK, TUNNEL, takeSetting } from './haproxy-settings.ts';
import { readLines } from './haproxy-words.ts';

const PROXIES = ['frontend', 'backend', 'listen'];
const SECTIONS = [
  ...PROXIES,
  ...'global defaults userlist peers resolvers mailers cache program ring http-errors log-forward fcgi-app traces'.split(' '),
];

/** Section 2.4. */
const CONDITION = 'lb4 decides nothing here: what stands between .if and .endif is carried over in any case';
const CONDITIONS = ['.if', '.elif', '.else', '.endif'];

const FRONTEND_KEYS = ['maxconn', 'client_timeout', 'use_backend', 'default_backend'];
const BACKEND_KEYS = ['balance', 'connect_timeout', 'server_timeout', 'queue_timeout', 'retries', 'health_check_timeout'];
const HTTP_KEYS = ['health_check', 'health_check_path', 'health_check_host', 'health_check_status'];

interface Section {
  readonly kind: string;
  readonly name: string;
  readonly head: Line;
  readonly lines: readonly Line[];
}

/** A section that balances, and all that counts for it. */
interface Proxy extends Section {
  readonly settings: Settings;
  readonly binds: readonly Bind[];
  readonly servers: readonly ServerLine[];
}

/** @throws ConfigError where nothing of `text` can be carried over */
export function importHaproxy(text: string, name: string): Imported {
  const draft = new Draft();
  const proxies = proxiesOf(readLines(text), draft);
  const frontends = proxies.filter(({ kind }) => kind !== 'backend');
  const backends = proxies.filter(({ kind }) => kind !== 'frontend');
  for (const frontend of frontends) addFrontends(draft, frontend, backends);
  for (const backend of backends) addBackend(draft, backend, portOf(backend, frontends));
  return finish(draft, 'proxy', { name, head: [`From ${name}, by \`lb4 import haproxy\`: for proxy mode, lb4 --config=FILE.`] });
}

function sectionsOf(lines: readonly Line[], draft: Draft): Section[] {
  const sections: (Section & { lines: Line[] })[] = [];
  for (const line of lines) {
    const [kind = '', name = ''] = line.words;
    const last = sections.at(-1);
    if (CONDITIONS.includes(kind)) draft.lose(line, CONDITION);
    else if (SECTIONS.includes(kind)) sections.push({ kind, name, head: line, lines: [] });
    else if (last === undefined) draft.lose(line, 'stands in no section');
    else last.lines.push(line);
  }
  return sections;
}

function proxiesOf(lines: readonly Line[], draft: Draft): Proxy[] {
  const named = new Map<string, Settings>();
  let defaults = new Settings();
  return sectionsOf(lines, draft).flatMap((section): Proxy[] => {
    const { kind, name, head } = section;
    const { words } = head;
    const from = words.indexOf('from');
    const base = from === -1 ? defaults : (named.get(words[from + 1] ?? '') ?? defaults);
    if (kind === 'defaults') {
      defaults = new Settings(from === -1 ? undefined : base);
      for (const line of section.lines) takeSetting(defaults, line, (why) => draft.lose(line, why));
      named.set(name, defaults);
      return [];
    }
    if (PROXIES.includes(kind)) return proxyOf(section, base, draft);
    const why = kind === 'global' ? 'is about the process of HAProxy' : `lb4 has nothing like a section ${kind}`;
    for (const line of section.lines) draft.lose(line, why);
    return [];
  });
}

/** None where it does not balance TCP. */
function proxyOf(section: Section, defaults: Settings, draft: Draft): Proxy[] {
  const settings = new Settings(defaults);
  const [lost, servers, binds]: [[Line, string][], ServerLine[], Line[]] = [[], [], []];
  for (const line of section.lines) {
    const [word] = line.words;
    if (word === 'bind' && section.kind !== 'backend') binds.push(line);
    else if (word === 'server' && section.kind !== 'frontend') servers.push({ line, defaults: [...settings.defaultServer] });
    else takeSetting(settings, line, (why) => lost.push([line, why]));
  }
  const why = whyNot(settings);
  if (why !== undefined) {
    for (const line of [section.head, ...section.lines]) draft.lose(line, why);
    return [];
  }
  for (const [line, reason] of lost) draft.lose(line, reason);
  loseIdle(section, settings, draft);
  if (section.kind !== 'backend') loseUnreached(section, settings, servers, draft);
  const [, , address] = section.head.words;
  // As in old files: `listen NAME ADDRESS:PORT`.
  const old = address?.includes(':') ? bindsOf(section.head, [address], draft) : [];
  return [{ ...section, settings, servers, binds: [...old, ...binds.flatMap((line) => bindsOf(line, line.words.slice(1), draft))] }];
}

/** What a section says that has no effect in it. */
function loseIdle({ kind, lines }: Section, settings: Settings, draft: Draft): void {
  const known = [
    'mode',
    'disabled',
    ...(kind === 'backend' ? [] : FRONTEND_KEYS),
    ...(kind === 'frontend' ? [] : [...BACKEND_KEYS, TUNNEL]),
    ...(kind !== 'frontend' && settings.text('health_check') === 'http' ? [...HTTP_KEYS, TLS_CHECK] : []),
  ];
  for (const [key, { from, value }] of settings.given) {
    if (!lines.includes(from) || known.includes(key) || (key === 'health_check' && value === 'tcp')) continue;
    draft.lose(from, [...HTTP_KEYS, TLS_CHECK].includes(key) ? 'has no effect without option httpchk' : `has no effect in a ${kind}`);
  }
}

/** The backend that its connections go to: use_backend comes first, and what a listen has of its own last. */
function targetOf({ kind, name, settings }: Pick<Proxy, 'kind' | 'name' | 'settings'>): string | undefined {
  return settings.text('use_backend') ?? settings.text('default_backend') ?? (kind === 'listen' ? name : undefined);
}

function loseUnreached(section: Section, settings: Settings, servers: readonly ServerLine[], draft: Draft): void {
  const [use, otherwise] = [settings.given.get('use_backend'), settings.given.get('default_backend')];
  if (use !== undefined && otherwise !== undefined)
    draft.lose(otherwise.from, `use_backend ${String(use.value)} takes every connection of ${section.name}`);
  const target = targetOf({ ...section, settings });
  if (servers.length === 0 || target === section.name) return;
  const why = `takes every connection of ${section.name}, whose own servers get none`;
  draft.lose((use ?? otherwise)?.from ?? section.head, why);
}

function whyNot(settings: Settings): string | undefined {
  if (settings.text('disabled') === 'true') return 'this section is disabled';
  const mode = settings.text('mode') ?? 'tcp';
  return mode === 'tcp' ? undefined : `this section is in mode ${mode}: lb4 balances TCP alone`;
}

/** One for each address: lb4's frontends have one. */
function addFrontends(draft: Draft, frontend: Proxy, backends: readonly Proxy[]): void {
  const { name, head, binds, settings } = frontend;
  const backend = targetOf(frontend);
  const target = backends.find((one) => one.name === backend);
  if (backend === undefined || target === undefined) {
    const why = backend === undefined ? 'has no default_backend' : `its backend ${backend} is not carried over`;
    for (const line of new Set([head, ...binds.map(({ from }) => from)])) draft.lose(line, why);
    return;
  }
  if (binds.length === 0) return draft.lose(head, 'listens nowhere');
  const limit = settings.given.get('maxconn');
  if (binds.length > 1 && limit !== undefined && limit.value !== 0)
    draft.lose(limit.from, `each of the ${binds.length} addresses of ${name} has this limit for itself, not all together`);
  for (const [i, { listen, acceptProxy, maxconn, from }] of binds.entries()) {
    const { keys } = draft.table(['frontends', i === 0 ? name : `${name}-${i + 1}`], from);
    keys.set('listen_addr', { value: listen, from });
    keys.set('backend', { value: backend, from: head });
    const least = smaller(maxconn === undefined ? undefined : { value: maxconn, from }, limit);
    if (least !== undefined) keys.set('maxconn', least);
    if (acceptProxy) keys.set('accept_proxy', { value: true, from });
    takeIdle('client_timeout', settings, target.settings, keys, draft);
  }
}

function addBackend(draft: Draft, { name, head, settings, servers }: Proxy, port: string | undefined): void {
  const table = draft.table(['backends', name], head);
  // HAProxy's own, for lb4's depends on the mode.
  table.keys.set('balance', { value: 'roundrobin', from: head });
  take(settings, table.keys, BACKEND_KEYS);
  takeIdle('server_timeout', settings, settings, table.keys, draft);
  if (settings.text('health_check') === 'http' && !isElsewhere(settings, servers, draft)) take(settings, table.keys, HTTP_KEYS);
  takeServers(servers, table, port, draft);
}

/** Whether HTTP checks go by TLS, elsewhere or to several ports: those that lb4 can make would find every server down. */
function isElsewhere({ given }: Settings, servers: readonly ServerLine[], draft: Draft): boolean {
  const parameters = servers.map(({ line, defaults }) => parametersOf([...defaults, ...line.words.slice(3)]));
  const is =
    given.has(TLS_CHECK) ||
    ['check-ssl', 'addr'].some((word) => parameters.some((one) => one.has(word))) ||
    checkPort(parameters) === 'several';
  for (const key of is ? HTTP_KEYS : []) {
    const from = given.get(key)?.from;
    if (from !== undefined)
      draft.lose(
        from,
        "lb4's HTTP checks are plain, and go to each server's own address, at one port of all: it checks by a TCP connect instead",
      );
  }
  return is;
}

/** In `mode tcp`, `timeout tunnel` of the backend takes the place of the client's and the server's once a connection stands. */
function takeIdle(key: 'client_timeout' | 'server_timeout', own: Settings, backend: Settings, keys: Table['keys'], draft: Draft): void {
  const [given, tunnel] = [own.given.get(key), backend.given.get(TUNNEL)];
  const counts = tunnel ?? given;
  if (counts !== undefined) keys.set(key, counts);
  if (given !== undefined && tunnel !== undefined) draft.lose(given.from, `${TUNNEL} (line ${tunnel.from.number}) takes its place`);
}

/** Of two limits that both count the one that is reached first; 0 is none. */
function smaller(a: Given | undefined, b: Given | undefined): Given | undefined {
  const limits = [a, b].filter((one) => one !== undefined && one.value !== 0).toSorted((x, y) => Number(x?.value) - Number(y?.value));
  return limits[0] ?? a ?? b;
}

function take(settings: Settings, keys: Table['keys'], names: readonly string[]): void {
  for (const name of names) {
    const given = settings.given.get(name);
    if (given !== undefined) keys.set(name, given);
  }
}

/** The one port that clients of a backend come to; undefined where there are several. */
function portOf(backend: Proxy, frontends: readonly Proxy[]): string | undefined {
  const own = frontends.filter((one) => targetOf(one) === backend.name);
  const ports = new Set(own.flatMap(({ binds }) => binds.map(({ listen }) => listen.slice(listen.lastIndexOf(':') + 1))));
  return ports.size === 1 ? [...ports][0] : undefined;
}
