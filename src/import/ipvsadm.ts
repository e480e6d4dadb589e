/** What `ipvsadm -Sn` prints (ipvsadm(8)): services of the kernel's IPVS and their servers. */

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
/** How packets reach servers, and which of lb4's modes does that. */
const METHODS = { '-g': 'dsr', '-m': 'passthrough', '-i': undefined } as const satisfies Record<string, Mode | undefined>;
type Method = keyof typeof METHODS;

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
  const method = methodOfMost(services);
  const mode = METHODS[method];
  for (const service of services) addService(draft, service, method);
  const head = [`From ${name}, by \`lb4 import ipvsadm\`: for lb4 --${mode} --config=FILE.`];
  if (method === '-g')
    head.push(
      "The servers have the frontends' addresses already (ipvsadm -g); `lb4 rules --dsr --for SERVER` prints a script whose `status` tells.",
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
function methodOfMost(services: readonly Service[]): '-g' | '-m' {
  const methods = services.flatMap(({ servers }) => servers.map(({ options }) => methodOf(options)));
  const count = (method: Method) => methods.filter((one) => one === method).length;
  return count('-g') > count('-m') ? '-g' : '-m';
}

function methodOf(options: ReadonlyMap<string, string>): Method {
  // ipvsadm(8): -g is the default.
  return (Object.keys(METHODS) as Method[]).find((method) => options.has(method)) ?? '-g';
}

function addService(draft: Draft, service: Service, method: Method): void {
  const { line, protocol, address, options } = service;
  const servers = service.servers.filter(({ line: from, options: given }) => {
    const its = methodOf(given);
    if (its === method) return true;
    const other = METHODS[its];
    const why =
      other === undefined ? 'lb4 has no tunnels' : `${its} needs another mode than most: lb4 --${other}, in another network namespace`;
    draft.lose(from, why);
    return false;
  });
  if (servers.length === 0 && service.servers.length > 0) return draft.lose(line, 'none of its servers is carried over');
  const name = `${protocol}-${address.replaceAll(/[[\]]/g, '')}`;
  const frontend = draft.table(['frontends', name], line);
  frontend.keys.set('listen_addr', { value: address, from: line });
  if (protocol !== 'tcp') frontend.keys.set('protocol', { value: protocol, from: line });
  if (options.has('-o') && protocol === 'udp') frontend.keys.set('udp_per_packet', { value: true, from: line });
  frontend.keys.set('backend', { value: name, from: line });
  const backend = draft.table(['backends', name], line);
  if (method === '-g') backend.keys.set('dsr', { value: 'l2', from: line });
  schedule(draft, service, backend, method);
  for (const [option, value] of options)
    if (!['-t', '-u', '-s', '-p', '-M', '-b', ...(protocol === 'udp' ? ['-o'] : [])].includes(option))
      draft.lose(line, IPVS, value === '' ? option : `${option} ${value}`);
  for (const server of servers) addServer(draft, name, server, WEIGHTLESS.includes(options.get('-s') ?? 'wlc'));
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
  const hashes = method === '-g' && (balance === 'source' || balance === 'maglev');
  const isPersistent = options.has('-p');
  backend.keys.set('balance', { value: isPersistent && hashes ? 'source' : balance, from: line });
  if (isPersistent) persist(draft, service, backend, hashes);
}

/** A client's address with its server (ipvsadm(8), -p). */
function persist(draft: Draft, { line, options }: Service, backend: Table, hashes: boolean): void {
  const given = options.get('-p') ?? '';
  const wanted = given === '' ? PERSISTENT_SECONDS : Number(given);
  const seconds = Math.min(wanted, MAX_AFFINITY_SECONDS);
  if (hashes) draft.lose(line, 'in DSR balance = "source" keeps a client with its server, without a time', `-p ${given}`.trim());
  else backend.keys.set('affinity', { value: seconds, from: line });
  if (!hashes && seconds < wanted) draft.lose(line, `affinity is ${seconds} s at most`, `-p ${given}`);
  const mask = options.get('-M');
  if (mask !== undefined && !WHOLE.includes(mask)) draft.lose(line, 'lb4 goes by the whole address of a client', `-M ${mask}`);
}

function addServer(draft: Draft, service: string, { line, options }: Service['servers'][number], isWeightless: boolean): void {
  const address = options.get('-r') ?? '';
  const table = draft.table(['backends', service, 'servers', address.replaceAll(/[[\]]/g, '') || 'unnamed'], line);
  table.keys.set('addr', { value: address, from: line });
  const weight = options.get('-w') ?? '1';
  if (!isWeightless || weight === '0') table.keys.set('weight', { value: Number(weight), from: line });
  else if (weight !== '1') draft.lose(line, 'this scheduler of IPVS does not look at weights', `-w ${weight}`);
  const most = Number(options.get('-x') ?? 0);
  if (most > 0) table.keys.set('maxconn', { value: most, from: line });
  const least = options.get('-y') ?? '0';
  if (least !== '0') draft.lose(line, 'a server below its maxconn takes connections again at once', `-y ${least}`);
  for (const [option, value] of options)
    if (!['-t', '-u', '-r', '-w', '-x', '-y', ...Object.keys(METHODS)].includes(option))
      draft.lose(line, IPVS, value === '' ? option : `${option} ${value}`);
}
