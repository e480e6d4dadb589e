/** `server NAME ADDRESS[:PORT] [PARAMETERS]`, `default-server` (section 5.2). */
import type { Draft, Line, Table, Value } from './draft.ts';
import { checkPort, lostIn, parametersOf } from './haproxy-parameters.ts';
import { numberOf, secondsOf } from './haproxy-words.ts';

interface Server {
  readonly name: string;
  readonly line: Line;
  /** Its own parameters. */
  readonly words: readonly string[];
  /** And those of every server. */
  readonly given: ReadonlyMap<string, string | undefined>;
}

/** A line `server`, and the parameters that every `default-server` before it gives it. */
export interface ServerLine {
  readonly line: Line;
  readonly defaults: readonly string[];
}

/** @param port of the only frontend's, for servers that name none */
export function takeServers(lines: readonly ServerLine[], backend: Table, port: string | undefined, draft: Draft): void {
  const servers = lines.flatMap(({ line, defaults }): Server[] => {
    const [, name = '', address = '', ...words] = line.words;
    const given = parametersOf([...defaults, ...words]);
    const addr = addressOf(address, port);
    const why = given.has('ssl') ? 'lb4 does not speak TLS itself: without it the server would get plain text' : addr.why;
    if (why !== undefined) {
      draft.lose(line, why);
      return [];
    }
    addServer(draft, backend, { name, line, words, given }, addr.text);
    return [{ name, line, words, given }];
  });
  takeShared(servers, backend, draft);
  takePort(servers, backend, draft);
}

function addServer(draft: Draft, backend: Table, { name, line, words, given }: Server, addr: string): void {
  const table = draft.table([...backend.path, 'servers', name], line);
  const set = (key: string, value: Value | undefined) => {
    if (value !== undefined) table.keys.set(key, { value, from: line });
  };
  set('addr', addr);
  set('weight', given.has('disabled') ? 0 : numberOf(given.get('weight')));
  if (given.has('disabled')) draft.lose(line, 'a server out of service is one with weight = 0: it is checked', `server ${name} … disabled`);
  set('maxconn', numberOf(given.get('maxconn')));
  set('backup', given.has('backup') ? true : undefined);
  if (!given.has('check')) draft.lose(line, 'lb4 checks every server, this one too', `server ${name} without check`);
  for (const { text, why } of lostIn(words)) draft.lose(line, why, `server ${name} … ${text}`);
}

/** Keys of the backend that HAProxy has for each server; the manual's own defaults, for lb4's are others. */
const SHARED: Readonly<Record<string, (server: Server) => Value | undefined>> = {
  health_check_interval: ({ given }) => (given.has('check') ? (secondsOf(given.get('inter')) ?? 2) : undefined),
  health_check_rise: ({ given }) => (given.has('check') ? (numberOf(given.get('rise')) ?? 2) : undefined),
  health_check_fall: ({ given }) => (given.has('check') ? (numberOf(given.get('fall')) ?? 3) : undefined),
  // 0 is what a server has that says nothing.
  slow_start: ({ given }) => secondsOf(given.get('slowstart')) || undefined,
  send_proxy: ({ given }) => (given.has('send-proxy-v2') ? 'v2' : given.has('send-proxy') ? 'v1' : undefined),
};

/** The backend goes by its first server that says something; others that say something else are told. */
function takeShared(servers: readonly Server[], backend: Table, draft: Draft): void {
  for (const [key, read] of Object.entries(SHARED)) {
    const first = servers.find((server) => read(server) !== undefined);
    if (first === undefined) continue;
    const value = read(first) as Value;
    backend.keys.set(key, { value, from: first.line });
    for (const server of servers) {
      // Who is not checked has been told of.
      if (read(server) === value || (key.startsWith('health_check') && read(server) === undefined)) continue;
      draft.lose(server.line, `a backend has one ${key}: it is ${String(value)}, as of server ${first.name}`, `server ${server.name}`);
    }
  }
}

function takePort(servers: readonly Server[], backend: Table, draft: Draft): void {
  const port = checkPort(servers.map(({ given }) => given));
  for (const { name, line, given } of servers) {
    const own = numberOf(given.get('port'));
    if (own === undefined || port === undefined) continue;
    if (port !== 'several') backend.keys.set('health_check_port', { value: port, from: line });
    else draft.lose(line, 'a backend has one health_check_port: each server is checked at its own instead', `server ${name} … port ${own}`);
  }
}

function addressOf(text: string, port: string | undefined): { readonly text: string; readonly why?: string } {
  const [, host, own] = /^(.*?)(?::(\d+))?$/.exec(text.replace(/^ipv[46]@/, '')) ?? [];
  const bare = (host ?? '').replace(/^\[(.*)\]$/, '$1');
  if (/[@/$]|^$|:\+|:-/.test(bare)) return { text, why: 'lb4 reaches servers by an address and a port' };
  const to = own ?? port;
  if (to === undefined) return { text, why: 'needs a port: its frontend has several, or none' };
  return { text: bare.includes(':') ? `[${bare}]:${to}` : `${bare}:${to}` };
}
