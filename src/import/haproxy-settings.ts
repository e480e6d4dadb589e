/** HAProxy's keywords that say how a section works, in lb4's keys. `bind` and `server` have files of their own. */

import { lookUp } from '../look-up.ts';
import type { Given, Line, Value } from './draft.ts';
import { lostIn } from './haproxy-parameters.ts';
import { FROM_ENVIRONMENT, isFromEnvironment, numberOf, secondsOf, whyUnread } from './haproxy-words.ts';

/** Not a key of lb4's: HTTP checks go by TLS. */
export const TLS_CHECK = 'TLS check';

/** Not a key of lb4's either: what `timeout tunnel` says in the place of two others. */
export const TUNNEL = 'timeout tunnel';

/** What a section says, or defaults say for it, by lb4's key. */
export class Settings {
  readonly given: Map<string, Given>;
  /** The words of every `default-server`. */
  readonly defaultServer: string[];

  /** @param defaults what counts where the section says nothing */
  constructor(defaults?: Settings) {
    this.given = new Map(defaults?.given);
    this.defaultServer = [...(defaults?.defaultServer ?? [])];
  }

  set(key: string, value: Value, from: Line): void {
    this.given.set(key, { value, from });
  }

  /** What counts where a line's value could not be read. */
  standIn(key: string): string {
    const before = this.given.get(key);
    return before === undefined ? 'it is left out' : `what line ${before.from.number} says stays`;
  }

  text(key: string): string | undefined {
    const value = this.given.get(key)?.value;
    return value === undefined ? undefined : String(value);
  }
}

interface Keyword {
  readonly settings: Settings;
  readonly line: Line;
  /** After the keyword. */
  readonly args: readonly string[];
  /** A part could not be carried over. */
  lose(why: string): void;
}

/** Takes a keyword over; returns why it cannot, as a whole. */
type Take = (keyword: Keyword) => string | undefined;

/** Takes the line over, or says why not. `bind` and `server` are not for here. */
export function takeSetting(settings: Settings, line: Line, lose: (why: string) => void): void {
  const [word = '', ...args] = line.words;
  const why = (lookUp(KEYWORDS, word) ?? unknown)({ settings, line, args, lose });
  if (why !== undefined) lose(why);
}

const unknown: Take = () => 'lb4 has nothing like it';
const because =
  (why: string): Take =>
  () =>
    why;

/** The whole keyword is one value. */
function value(key: string, read: (text: string | undefined) => Value | undefined): Take {
  return ({ settings, line, args: [text] }) => {
    const read_ = read(text);
    if (read_ === undefined) return `${whyUnread(text)}; ${settings.standIn(key)}`;
    settings.set(key, read_, line);
    return undefined;
  };
}

const BALANCE: Readonly<Record<string, string>> = {
  roundrobin: 'roundrobin',
  'static-rr': 'roundrobin',
  leastconn: 'leastconn',
  source: 'source',
  first: 'first',
  random: 'random',
};

const CONNECTION_LOG = '[connection_log] has a line for each connection that has ended';
const STICK = 'balance = "source" keeps a client with its server; in passthrough affinity does, too';
const CONTENT = 'lb4 does not look into what connections carry';
const CHECK = 'lb4 checks by a TCP connect, HTTP, a datagram or a command (health_check)';

const KEYWORDS: Readonly<Record<string, Take>> = {
  mode: value('mode', (text) => text),
  maxconn: value('maxconn', numberOf),
  retries: value('retries', numberOf),
  default_backend: value('default_backend', (text) => text),
  disabled: value('disabled', () => true),
  enabled: value('disabled', () => false),
  balance: takeBalance,
  use_backend: takeUseBackend,
  timeout: (keyword) => {
    const key = lookUp(TIMEOUTS, keyword.args[0] ?? '');
    if (key === undefined) return 'lb4 has no such timeout';
    return value(key, secondsOf)({ ...keyword, args: keyword.args.slice(1) });
  },
  no: takeNo,
  default: takeNo,
  option: (keyword) => (lookUp(OPTIONS, keyword.args[0] ?? '') ?? unknown)({ ...keyword, args: keyword.args.slice(1) }),
  'http-check': takeHttpCheck,
  'tcp-check': because(CHECK),
  'external-check': because('see health_check = "exec", whose command has the server in LB4_SERVER_ADDR and LB4_SERVER_PORT'),
  'default-server': ({ settings, args, lose }) => {
    settings.defaultServer.push(...args);
    for (const { text, why } of lostIn(args)) lose(`${text}: ${why}`);
    return undefined;
  },
  acl: because(CONTENT),
  'http-request': because(CONTENT),
  'http-response': because(CONTENT),
  'tcp-request': because('lb4 has no rules for connections: filter in the firewall'),
  'tcp-response': because(CONTENT),
  stick: because(STICK),
  'stick-table': because(STICK),
  source: because('in passthrough see source_addrs; a proxy connects from what the kernel chooses'),
  stats: because('lb4 has a table [stats]'),
  log: because(`lb4 logs to standard error; ${CONNECTION_LOG}`),
  'hash-type': because("lb4's hashes are consistent (Maglev)"),
};

const TIMEOUTS: Readonly<Record<string, string>> = {
  connect: 'connect_timeout',
  client: 'client_timeout',
  server: 'server_timeout',
  queue: 'queue_timeout',
  check: 'health_check_timeout',
  tunnel: TUNNEL,
};

const OPTIONS: Readonly<Record<string, Take>> = {
  httpchk: takeHttpchk,
  redispatch: because('not needed: after a failed connect lb4 tries another server (retries)'),
  tcplog: because(CONNECTION_LOG),
  httplog: because(CONNECTION_LOG),
  dontlognull: because(`${CONNECTION_LOG}, with data or without`),
  'tcp-check': ({ settings, line }) => {
    settings.set('health_check', 'tcp', line);
    return undefined;
  },
  ...Object.fromEntries(
    ['ssl-hello-chk', 'mysql-check', 'pgsql-check', 'redis-check', 'smtpchk', 'ldap-check', 'spop-check', 'external-check'].map((name) => [
      name,
      takeOtherCheck,
    ]),
  ),
};

/** Rules count in their order: the first without a condition takes every connection that comes to it. */
function takeUseBackend({ settings, line, args: [backend = '', ...condition] }: Keyword): string | undefined {
  const first = settings.text('use_backend');
  if (first !== undefined) return `use_backend ${first} stands before it, and takes every connection`;
  if (backend.includes('%[') || !['', 'if TRUE', 'unless FALSE'].includes(condition.join(' '))) return CONTENT;
  settings.set('use_backend', backend, line);
  return undefined;
}

/** `no option X`, `default option X` (section 4.1): what was said before, as by defaults, is undone. */
function takeNo({ settings, args: [what, option = ''] }: Keyword): string | undefined {
  if (what === 'option' && option === 'redispatch') return 'after a failed connect lb4 tries another server (retries)';
  const check = what === 'option' ? lookUp(UNDONE, option) : undefined;
  if (check === undefined) return 'lb4 has nothing like it';
  if (settings.text('health_check') === check) settings.given.delete('health_check');
  return undefined;
}

const UNDONE: Readonly<Record<string, Value>> = { httpchk: 'http', 'tcp-check': 'tcp' };

/** A check that lb4 has not: it takes the place of another all the same, as of one in defaults. */
function takeOtherCheck({ settings }: Keyword): string {
  settings.given.delete('health_check');
  return CHECK;
}

function takeBalance({ settings, line, args: [name = ''], lose }: Keyword): string | undefined {
  const [, drawn] = /^random\((.*)\)$/.exec(name) ?? [];
  if (drawn !== undefined && drawn !== '2') lose(`lb4's random draws two servers, not ${drawn}`);
  const balance = drawn === undefined ? lookUp(BALANCE, name) : 'random';
  if (balance === undefined) {
    // It takes the place of the one in defaults, too.
    settings.given.delete('balance');
    return `${isFromEnvironment(name) ? FROM_ENVIRONMENT : CONTENT}: roundrobin instead`;
  }
  settings.set('balance', balance, line);
  return undefined;
}

/** `option httpchk [[METHOD] URI [VERSION]]` */
function takeHttpchk({ settings, line, args, lose }: Keyword): string | undefined {
  if (args.some(isFromEnvironment)) {
    settings.given.delete('health_check');
    return `${FROM_ENVIRONMENT}; it checks by a TCP connect instead`;
  }
  const [method, path, version = ''] =
    args.length === 1 ? ['OPTIONS', args[0]] : [args[0] ?? 'OPTIONS', args[1] ?? '/', args.slice(2).join(' ')];
  settings.set('health_check', 'http', line);
  settings.set('health_check_path', path ?? '/', line);
  askWith(method, lose);
  const [, host] = /\r\nHost:\s*(\S+)/i.exec(version) ?? [];
  if (host !== undefined) settings.set('health_check_host', host, line);
  const others = [...version.matchAll(/\r\n([\w-]+):/g)].map(([, name = '']) => name).filter((name) => name.toLowerCase() !== 'host');
  if (others.length > 0) lose(`lb4 sends no header of one's choice but Host: ${others.join(', ')}`);
  return undefined;
}

function askWith(method: string, lose: (why: string) => void): void {
  if (method !== 'GET') lose(`lb4 asks with GET, not with ${method}`);
}

function takeHttpCheck(keyword: Keyword): string | undefined {
  const [what, ...args] = keyword.args;
  if (args.some(isFromEnvironment)) return FROM_ENVIRONMENT;
  if (what === 'send') return takeSend({ ...keyword, args });
  if (what === 'expect') return takeExpect({ ...keyword, args });
  if (what === 'connect' && args.includes('ssl')) keyword.settings.set(TLS_CHECK, true, keyword.line);
  return CHECK;
}

/** `http-check send meth GET uri /health ver HTTP/1.1 hdr Host example.com` */
function takeSend({ settings, line, args, lose }: Keyword): string | undefined {
  const words = [...args];
  while (words.length > 0) {
    const [word = '', first = '', second = ''] = words;
    if (word === 'hdr' && first.toLowerCase() === 'host') settings.set('health_check_host', second, line);
    else if (word === 'uri') settings.set('health_check_path', first, line);
    else if (word === 'meth') askWith(first, lose);
    else if (word !== 'ver') lose(`lb4 does not send ${words.slice(0, word === 'hdr' ? 3 : 2).join(' ')}`);
    words.splice(0, word === 'hdr' ? 3 : 2);
  }
  return undefined;
}

/** `http-check expect status 200-399`. */
function takeExpect({ settings, line, args }: Keyword): string | undefined {
  const [what, status] = args.filter((word) => !/^(min-recv|comment|on-success|on-error)$/.test(word));
  if (what !== 'status' || status === undefined) return 'lb4 goes by the status alone (health_check_status)';
  settings.set('health_check_status', status, line);
  return undefined;
}
