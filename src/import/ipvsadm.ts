/** What `ipvsadm -Sn` prints (ipvsadm(8)): services of the kernel's IPVS and their servers. */

import type { Dsr } from '../config/model.ts';
import type { Mode } from '../config/modes.ts';
import { lookUp } from '../look-up.ts';
import { Draft, type Line, type Table } from './draft.ts';
import { finish, type Imported } from './finish.ts';

/** Of a scheduler: lb4's, and what of it is another. */
const SCHEDULERS: Readonly<Record<string, readonly [balance: string, but?: string]>> = {
  rr: ['roundrobin'],
  wrr: ['roundrobin'],
  lc: ['leastconn'],
  wlc: ['leastconn'],
  sh: ['source'],
  mh: ['maglev'],
  twos: ['random'],
  sed: ['leastconn', 'lb4 has no "shortest expected delay": leastconn is nearest'],
  nq: ['leastconn', 'lb4 has no "never queue": leastconn is nearest'],
  fo: ['first', 'lb4 takes servers in their order, not by weight: the first that is up'],
  ovf: ['first', 'lb4 takes servers in their order, not by weight: the first below its maxconn'],
};
/** Those that do not look at weights, but for 0. */
const WEIGHTLESS = ['rr', 'lc', 'twos'];

/** ipvsadm(8): -p without a time. */
const PERSISTENT_SECONDS = 300;
/** What the key `affinity` takes. */
const MAX_AFFINITY_SECONDS = 604_800;
/** Masks of -M that leave an address as it is. */
const WHOLE = ['255.255.255.255', '128'];

const IPVS = 'lb4 has nothing like it';
/** How packets reach servers, and what of lb4's does that. */
const METHODS = {
  '-g': { mode: 'dsr', dsr: 'l2' },
  '-i': { mode: 'dsr', dsr: 'ipip' },
  '-m': { mode: 'passthrough', dsr: undefined },
} as const satisfies Record<string, { readonly mode: Mode; readonly dsr: Dsr | undefined }>;
type Method = keyof typeof METHODS;
const METHOD_NAMES = Object.keys(METHODS) as Method[];

/** ipvsadm(8): how a server of -i is wrapped; without it, by IP in IP. */
const TUNNEL = '--tun-type';
const IPIP = 'ipip';

/** What a service is balanced by, by the option that names its address. */
const PROTOCOLS = { '-t': 'tcp', '-u': 'udp' } as const;
type ProtocolOption = keyof typeof PROTOCOLS;

interface Service {
  readonly line: Line;
  readonly protocol: (typeof PROTOCOLS)[ProtocolOption];
  readonly address: string;
  readonly options: ReadonlyMap<string, string>;
  readonly servers: { readonly line: Line; readonly options: ReadonlyMap<string, string> }[];
}

/** @throws ConfigError where nothing of `text` can be carried over */
export function importIpvsadm(text: string, name: string): Imported {
  const draft = new Draft();
  const services = servicesOf(text, draft);
  const mode = modeOfMost(services);
  const methods = new Set(services.flatMap((service) => addService(draft, service, mode) ?? []));
  const head = [`From ${name}, by \`lb4 import ipvsadm\`: for lb4 --${mode} --config=FILE.`];
  const direct = [...methods].filter((method) => METHODS[method].dsr !== undefined);
  if (direct.length > 0) {
    const options = direct.map((method) => `ipvsadm ${method}`).join(', ');
    head.push(
      `The servers have the frontends' addresses already (${options}); \`lb4 rules --dsr --for SERVER\` prints a script whose \`status\` tells.`,
    );
  }
  if (methods.has('-m'))
    head.push(
      "Servers see this host's address; IPVS (-m) had them see the client's: nat = \"destination\" in a backend does so, where its servers' way to clients is this host.",
    );
  return finish(draft, mode, { name, head });
}

function servicesOf(text: string, draft: Draft): Service[] {
  const services = new Map<string, Service>();
  for (const [i, written] of text.split(/\r?\n/).entries()) {
    const line: Line = { number: i + 1, words: written.trim().split(/\s+/).filter(Boolean) };
    const [command = '#'] = line.words;
    if (command.startsWith('#')) continue;
    const options = optionsOf(line.words.slice(1));
    const option = (Object.keys(PROTOCOLS) as ProtocolOption[]).find((one) => options.has(one));
    const address = option && options.get(option);
    const key = `${option} ${address}`;
    if (command !== '-A' && command !== '-a') draft.lose(line, 'is not what ipvsadm -Sn prints');
    else if (option === undefined || address === undefined) draft.lose(line, 'lb4 has no services by firewall mark');
    else if (command === '-A' && services.has(key)) draft.lose(line, 'a service that stands here already: the first one counts');
    else if (command === '-A') services.set(key, { line, protocol: PROTOCOLS[option], address, options, servers: [] });
    else if (services.has(key)) services.get(key)?.servers.push({ line, options });
    else draft.lose(line, 'its service (-A) does not stand before it');
  }
  return [...services.values()];
}

/** Options with their values, which may be empty: `-p` has a time or none. */
function optionsOf(words: readonly string[]): Map<string, string> {
  const options = new Map<string, string>();
  for (const [i, word] of words.entries()) {
    if (!word.startsWith('-')) continue;
    const next = words[i + 1] ?? '';
    options.set(lookUp(LONG, word) ?? word, next.startsWith('-') ? '' : next);
  }
  return options;
}

const LONG: Readonly<Record<string, string>> = {
  '--tcp-service': '-t',
  '--udp-service': '-u',
  '--scheduler': '-s',
  '--persistent': '-p',
  '--netmask': '-M',
  '--real-server': '-r',
  '--gatewaying': '-g',
  '--ipip': '-i',
  '--masquerading': '-m',
  '--weight': '-w',
  '--u-threshold': '-x',
  '--l-threshold': '-y',
  '--sched-flags': '-b',
  '--ops': '-o',
};

/** One lb4 has one mode. */
function modeOfMost(services: readonly Service[]): 'dsr' | 'passthrough' {
  const all = methodsOf(services.flatMap(({ servers }) => servers)).map((method) => METHODS[method]);
  return 2 * all.filter(({ dsr }) => dsr !== undefined).length > all.length ? 'dsr' : 'passthrough';
}

function methodsOf(servers: Service['servers']): Method[] {
  return servers.map(({ options }) => methodOf(options));
}

function methodOf(options: ReadonlyMap<string, string>): Method {
  // ipvsadm(8): -g is the default.
  return METHOD_NAMES.find((method) => options.has(method)) ?? '-g';
}

/** One backend has one way to reach its servers: of those of a mode the one of most. Undefined: none is of that mode. */
function methodWithin({ servers }: Service, mode: Mode): Method | undefined {
  const all = methodsOf(servers);
  const count = (method: Method) => all.filter((one) => one === method).length;
  const [most] = METHOD_NAMES.filter((method) => METHODS[method].mode === mode).toSorted((a, b) => count(b) - count(a));
  return most === undefined || (count(most) === 0 && all.length > 0) ? undefined : most;
}

/** Why a server does not come along behind a service whose servers are reached by `method`. */
function strange(options: ReadonlyMap<string, string>, method: Method | undefined, mode: Mode): string | undefined {
  const its = methodOf(options);
  if (METHODS[its].mode !== mode) return `${its} needs another mode than most: lb4 --${METHODS[its].mode}, in another network namespace`;
  if (its !== method) return `${its} is another way than that of most servers of this service, and a backend has one (dsr)`;
  const tunnel = options.get(TUNNEL) ?? IPIP;
  return its === '-i' && tunnel !== IPIP ? `its tunnel is no IP in IP: see dsr = "gue"` : undefined;
}

/** Adds it with those of its servers that come along. Returns how they are reached; undefined: nothing came along. */
function addService(draft: Draft, service: Service, mode: Mode): Method | undefined {
  const { line, protocol, address, options } = service;
  const method = methodWithin(service, mode);
  const servers = service.servers.filter(({ line: from, options: given }) => {
    const why = strange(given, method, mode);
    if (why !== undefined) draft.lose(from, why);
    return why === undefined;
  });
  if (method === undefined || (servers.length === 0 && service.servers.length > 0)) {
    draft.lose(line, 'none of its servers is carried over');
    return undefined;
  }
  const name = `${protocol}-${address.replaceAll(/[[\]]/g, '')}`;
  const frontend = draft.table(['frontends', name], line);
  frontend.keys.set('listen_addr', { value: address, from: line });
  if (protocol !== 'tcp') frontend.keys.set('protocol', { value: protocol, from: line });
  if (options.has('-o') && protocol === 'udp') frontend.keys.set('udp_per_packet', { value: true, from: line });
  frontend.keys.set('backend', { value: name, from: line });
  const backend = draft.table(['backends', name], line);
  const { dsr } = METHODS[method];
  if (dsr !== undefined) backend.keys.set('dsr', { value: dsr, from: line });
  // A server that answers by itself may unwrap nothing.
  if (dsr === 'ipip') backend.keys.set('health_check', { value: [dsr, protocol], from: line });
  schedule(draft, service, backend, method);
  for (const [option, value] of options)
    if (!['-t', '-u', '-s', '-p', '-M', '-b', ...(protocol === 'udp' ? ['-o'] : [])].includes(option))
      draft.lose(line, IPVS, value === '' ? option : `${option} ${value}`);
  for (const server of servers) addServer(draft, name, server, WEIGHTLESS.includes(options.get('-s') ?? 'wlc'));
  return method;
}

function schedule(draft: Draft, service: Service, backend: Table, method: Method): void {
  const { line, options } = service;
  // ipvsadm(8): the default.
  const scheduler = options.get('-s') ?? 'wlc';
  const flags = options.get('-b') ?? '';
  const [known, but] = lookUp(SCHEDULERS, scheduler) ?? ['leastconn', 'lb4 has no such scheduler: leastconn stands for it'];
  // By the client's address alone, unless told that its port counts as well, or the other way round.
  const balance =
    scheduler === 'mh' && !/mh-port|flag-2/.test(flags) ? 'source' : scheduler === 'sh' && /sh-port|flag-2/.test(flags) ? 'maglev' : known;
  if (but !== undefined) draft.lose(line, but, `-s ${scheduler}`);
  if (/fallback|flag-1/.test(flags)) draft.lose(line, 'not needed: the hash finds another server for one that is down', `-b ${flags}`);
  // There the hash alone says where a client's segments go (config/check/affinity.ts).
  const hashes = METHODS[method].dsr !== undefined && (balance === 'source' || balance === 'maglev');
  const isPersistent = options.has('-p');
  backend.keys.set('balance', { value: isPersistent && hashes ? 'source' : balance, from: line });
  if (isPersistent) persist(draft, service, backend, hashes);
}

/** A client's address with its server (ipvsadm(8), -p). */
function persist(draft: Draft, { line, options }: Service, backend: Table, hashes: boolean): void {
  const given = options.get('-p') ?? '';
  const wanted = (given === '' ? undefined : numberOf(draft, line, '-p', given)) ?? PERSISTENT_SECONDS;
  const seconds = Math.min(wanted, MAX_AFFINITY_SECONDS);
  if (hashes) draft.lose(line, 'in DSR balance = "source" keeps a client with its server, without a time', `-p ${given}`.trim());
  else backend.keys.set('affinity', { value: seconds, from: line });
  if (!hashes && seconds < wanted) draft.lose(line, `affinity is ${seconds} s at most`, `-p ${given}`);
  const mask = options.get('-M');
  if (mask !== undefined && !WHOLE.includes(mask)) draft.lose(line, 'lb4 goes by the whole address of a client', `-M ${mask}`);
}

/** What an option says; undefined: nothing, or no number, which is told. */
function numberOf(draft: Draft, line: Line, option: string, value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d{1,10}$/.test(value)) return Number(value);
  draft.lose(line, 'is no whole number', `${option} ${value}`.trim());
  return undefined;
}

function addServer(draft: Draft, service: string, { line, options }: Service['servers'][number], isWeightless: boolean): void {
  const address = options.get('-r') ?? '';
  const table = draft.table(['backends', service, 'servers', address.replaceAll(/[[\]]/g, '') || 'unnamed'], line);
  table.keys.set('addr', { value: address, from: line });
  const number = (option: string) => numberOf(draft, line, option, options.get(option));
  const weight = number('-w') ?? 1;
  if (!isWeightless || weight === 0) table.keys.set('weight', { value: weight, from: line });
  else if (weight !== 1) draft.lose(line, 'this scheduler of IPVS does not look at weights', `-w ${weight}`);
  const most = number('-x') ?? 0;
  if (most > 0) table.keys.set('maxconn', { value: most, from: line });
  const least = number('-y') ?? 0;
  if (least !== 0) draft.lose(line, 'a server below its maxconn takes connections again at once', `-y ${least}`);
  for (const [option, value] of options)
    if (!['-t', '-u', '-r', '-w', '-x', '-y', TUNNEL, ...METHOD_NAMES].includes(option))
      draft.lose(line, IPVS, value === '' ? option : `${option} ${value}`);
}
