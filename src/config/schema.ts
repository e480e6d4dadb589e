/**
 * Every configuration key: its type, range, default and meaning, once. load.ts checks files against it, mistakes.ts takes
 * its wording from it, and reference.ts renders it as docs/configuration.md.
 */
import { z } from 'zod';
import { ipv4Problem, isMulticastOrReserved, readAddress, readPort } from './address.ts';

/** What a reader needs to know about a key, beside its type. */
export interface KeyFacts {
  /** What may stand there, as messages and the reference say it. */
  readonly allowed: string;
  readonly description: string;
  readonly origin: 'convey' | 'lb4';
  /** What happens without the key, where no plain default value says it. */
  readonly otherwise?: string;
}

/** The facts of every schema in the tree. */
export const keyFacts = z.registry<KeyFacts>();

/** At most so many frontends, and so many servers over all backends. */
export const LIMITS = { frontends: 1024, servers: 4096 } as const;

export const BALANCE = ['first', 'leastconn', 'maglev', 'random', 'roundrobin', 'source'] as const;
export const DSR = ['nat', 'l2'] as const;
export const SEND_PROXY = ['v1', 'v2'] as const;
export const HEALTH_CHECK = ['tcp', 'http', 'exec'] as const;

const ADDRESS = 'an IPv4 address and a port, "192.0.2.1:80"';
const convey = { origin: 'convey' } as const;
const lb4 = { origin: 'lb4' } as const;

function key<T extends z.ZodType>(schema: T, facts: KeyFacts): T {
  keyFacts.add(schema, facts);
  return schema;
}

/** 65535, but 8,388,608. */
function human(number: number): string {
  return number < 100_000 ? String(number) : number.toLocaleString('en-US');
}

function oneOf(names: readonly string[]): string {
  return names.map((name) => `"${name}"`).join(' or ');
}

/** A key that holds a whole number. */
function whole(min: number, max: number, fallback: number, facts: Omit<KeyFacts, 'allowed'>) {
  const allowed = `a whole number, ${human(min)}–${human(max)}`;
  return key(z.int().min(min).max(max).default(fallback), { allowed, ...facts });
}

/** A key that holds seconds; decimals are welcome. */
function seconds(min: number, max: number, fallback: number, facts: Omit<KeyFacts, 'allowed'>) {
  const allowed = `seconds, ${human(min)}–${human(max)}`;
  return key(z.number().min(min).max(max).default(fallback), { allowed, ...facts });
}

/** A string whose further demands `problem` names. */
function checked(problem: (text: string) => string | undefined) {
  return z.string().superRefine((text, context) => {
    const message = problem(text);
    if (message !== undefined) context.addIssue({ code: 'custom', message });
  });
}

function listenProblem(text: string): string | undefined {
  const address = readAddress(text);
  if ('problem' in address) return address.problem;
  return isMulticastOrReserved(address.ipNumber) ? 'is a multicast, broadcast or reserved address' : undefined;
}

function serverProblem(text: string): string | undefined {
  const address = readAddress(text);
  if (!('problem' in address) && address.ipNumber >>> 24 === 0) return 'is not the address of one host';
  return listenProblem(text);
}

function pathProblem(text: string): string | undefined {
  return /^\/[!-~]*$/.test(text) ? undefined : 'is not a path: it must begin with a slash and have no spaces';
}

function checkStatus(value: string | number, context: z.RefinementCtx): void {
  if (readStatus(String(value)) === undefined) context.addIssue({ code: 'custom', message: 'is not a list of status codes' });
}

/** "200-299,401" as inclusive ranges, or undefined. */
export function readStatus(text: string): [first: number, last: number][] | undefined {
  const ranges = text.split(',').map((part): [number, number] | undefined => {
    const match = /^\s*([1-5]\d\d)(?:-([1-5]\d\d))?\s*$/.exec(part);
    if (match === null) return undefined;
    const [first, last] = [Number(match[1]), Number(match[2] ?? match[1])];
    return first <= last ? [first, last] : undefined;
  });
  return ranges.includes(undefined) ? undefined : (ranges as [number, number][]);
}

function isPowerOfTwo(number: number): boolean {
  return Number.isInteger(Math.log2(number));
}

const frontend = z.object({
  listen_addr: key(checked(listenProblem), {
    allowed: ADDRESS,
    description: 'Where clients connect. In passthrough and DSR it must be an address of this host. No two frontends may ' + 'share it.',
    ...convey,
  }),
  backend: key(z.string(), {
    allowed: 'the name of a backend, a string',
    description: 'The backend that takes the connections: `NAME` of a `[backends.NAME]` in the same file.',
    ...convey,
  }),
  maxconn: whole(0, 8_388_608, 0, {
    description: 'Connections at a time; further ones wait in the kernel (proxy) or are refused (passthrough, DSR). 0: no limit.',
    ...lb4,
  }),
  accept_proxy: key(z.boolean().default(false), {
    allowed: 'true or false',
    description: 'Proxy mode: clients are other proxies, and begin with a PROXY protocol header, v1 or v2. Without one they are refused.',
    ...lb4,
  }),
  client_timeout: seconds(0.1, 604_800, 7440, { description: "Proxy mode: the client's silence that ends a connection.", ...lb4 }),
});

const server = z.object({
  addr: key(checked(serverProblem), {
    allowed: ADDRESS,
    description:
      'Where the server listens. No two servers of a backend may share it. Hostnames are refused: a packet needs ' + 'an address.',
    ...convey,
  }),
  weight: whole(0, 65535, 1, {
    description: 'The share of new connections, relative to the other servers of the backend. 0: no new connections.',
    ...convey,
  }),
  maxconn: whole(0, 8_388_608, 0, {
    description: 'Connections at a time. 0: no limit. When all servers are full, new ones wait (proxy) or are refused (passthrough, DSR).',
    ...lb4,
  }),
  backup: key(z.boolean().default(false), {
    allowed: 'true or false',
    description: 'Gets connections only while no other server of the backend is up.',
    ...lb4,
  }),
});

const backend = z.object({
  balance: key(z.enum(BALANCE).optional(), {
    allowed: oneOf(BALANCE),
    description:
      "How a server is chosen, always by weight. `maglev`: by a hash of the client's address and port, steady when servers " +
      'come and go. `source`: the same by the address alone, so that a client stays with its server. `roundrobin`: in turn, ' +
      'smoothly. `leastconn`: the one with the fewest connections. `random`: the less loaded of two drawn by lot. ' +
      '`first`: the first in the file that is below its `maxconn`.',
    otherwise: "the mode's own: `roundrobin` in proxy mode, `maglev` in passthrough and DSR",
    ...lb4,
  }),
  send_proxy: key(z.enum(SEND_PROXY).optional(), {
    allowed: oneOf(SEND_PROXY),
    description: "Proxy mode: tells the servers the client's address by a PROXY protocol header of that version.",
    otherwise: 'no header',
    ...lb4,
  }),
  connect_timeout: seconds(0.05, 300, 5, { description: 'Proxy mode: a server that has not accepted by then has failed.', ...lb4 }),
  server_timeout: seconds(0.1, 604_800, 7440, { description: "Proxy mode: the server's silence that ends a connection.", ...lb4 }),
  retries: whole(0, 100, 3, { description: 'Proxy mode: after a failed connect, so many other servers are tried.', ...lb4 }),
  max_queue: whole(0, 1_000_000, 1024, {
    description: 'Proxy mode: so many connections wait while all servers are at their `maxconn`; further ones are refused.',
    ...lb4,
  }),
  queue_timeout: seconds(0.05, 3600, 5, { description: 'Proxy mode: a connection that waited so long is refused.', ...lb4 }),
  slow_start: seconds(0, 3600, 0, {
    description: 'A server that comes back after a failure grows to its full weight in this time. 0: at once.',
    ...lb4,
  }),
  drain_timeout: seconds(0, 604_800, 300, {
    description: 'When a server or frontend leaves the file, its running connections may go on for so long. 0: they end at once.',
    ...lb4,
  }),
  dsr: key(z.enum(DSR).default('nat'), {
    allowed: oneOf(DSR),
    description:
      "How direct server return reaches the servers; other modes do not read it. `nat`: the server's address as destination, " +
      "and the server rewrites its answers' source. `l2`: only the MAC address changes, and the server has the frontend's " +
      'address on its loopback; both share a link. `lb4 rules --dsr --for SERVER_IP` prints what the server needs.',
    ...lb4,
  }),
  health_check_interval: key(
    z
      .number()
      .min(0)
      .max(86400)
      .refine((s) => s === 0 || s >= 0.1, 'is too small')
      .default(5),
    {
      allowed: 'seconds, 0.1–86400, or 0',
      description: 'Time between two checks of a server, measured from start to start, with a little jitter. 0 means 5.',
      ...convey,
    },
  ),
  health_check: key(z.enum(HEALTH_CHECK).default('tcp'), {
    allowed: oneOf(HEALTH_CHECK),
    description:
      'How a server is checked. `tcp`: it completes a handshake. `http`: it answers a GET with a good status. `exec`: a command ' +
      'exits with 0.',
    ...lb4,
  }),
  health_check_path: key(checked(pathProblem).default('/'), {
    allowed: 'a path, "/health"',
    description: 'What an `http` check asks for.',
    ...lb4,
  }),
  health_check_status: key(z.union([z.string(), z.number()]).superRefine(checkStatus).default('200-399'), {
    allowed: 'status codes and ranges, 200 or "200-299,401"',
    description: 'The answers that an `http` check takes for good.',
    ...lb4,
  }),
  health_check_host: key(z.string().min(1).max(255).optional(), {
    allowed: 'a host name, a string',
    description: 'The Host header of an `http` check.',
    otherwise: "the server's `addr`",
    ...lb4,
  }),
  health_check_command: key(z.array(z.string().min(1)).min(1).optional(), {
    allowed: 'a program and its arguments, ["/usr/local/bin/check", "-q"]',
    description:
      'What an `exec` check runs, without a shell. It finds the server in LB4_SERVER_ADDR and LB4_SERVER_PORT, and its names in ' +
      'LB4_BACKEND and LB4_SERVER.',
    otherwise: 'required with `health_check = "exec"`',
    ...lb4,
  }),
  health_check_jitter: key(z.number().min(0).max(0.5).default(0.1), {
    allowed: 'a share, 0–0.5',
    description: 'Intervals vary by this share either way, lest all servers be checked at one moment.',
    ...lb4,
  }),
  health_check_timeout: seconds(0.05, 300, 3, { description: 'A check that has not succeeded by then has failed.', ...lb4 }),
  health_check_rise: whole(1, 100, 2, {
    description: 'Successful checks in a row that bring a failed server back. The first check after the start decides at once.',
    ...lb4,
  }),
  health_check_fall: whole(1, 100, 2, {
    description: 'Failed checks in a row that take a server out. 2 forgives one lost check; 1 is what Convey does.',
    ...lb4,
  }),
  servers: key(z.record(z.string(), server).default({}), {
    allowed: 'tables, [backends.NAME.servers.NAME]',
    description: `A server of the backend. At most ${LIMITS.servers} in a file.`,
    ...convey,
  }),
});

const stats = z.object({
  address: key(checked(ipv4Problem).default('0.0.0.0'), {
    allowed: 'an IPv4 address, "127.0.0.1"',
    description: 'Where the statistics are served: `0.0.0.0` is every address of this host, `127.0.0.1` only local readers.',
    ...lb4,
  }),
  port: key(z.union([z.string(), z.number()]).superRefine(checkPort).default('7000'), {
    allowed: 'a port, 1–65535, as a string or a number',
    description: 'The port of `GET /stats`. No frontend may use it on the same address.',
    ...convey,
  }),
});

function checkPort(value: string | number, context: z.RefinementCtx): void {
  const port = readPort(String(value));
  if (typeof port !== 'number') context.addIssue({ code: 'custom', message: 'is not a port' });
}

const timeouts = z.object({
  syn: seconds(1, 3600, 30, { description: "A SYN without the handshake's end.", ...lb4 }),
  established: seconds(1, 604_800, 7440, {
    description: 'Silence on an open connection (RFC 5382 REQ-5: at least 2 h 4 min).',
    ...lb4,
  }),
  fin: seconds(1, 3600, 120, { description: 'One side has sent its FIN, the other has not, and nothing is sent.', ...lb4 }),
  time_wait: seconds(1, 3600, 60, { description: 'After both FINs; the port is not given out again before.', ...lb4 }),
  closed: seconds(1, 3600, 10, { description: 'After a RST.', ...lb4 }),
});

const passthrough = z.object({
  connection_tracker_capacity: whole(1, 8_388_608, 262_144, {
    description:
      'Connections at a time; 256 to 512 bytes of memory each, and 1 MB. A full table refuses new connections and ' +
      "never drops a live one. (Convey's default is 1000.)",
    ...convey,
  }),
  workers: whole(1, 64, 1, {
    description: "Threads that forward packets. Only one does as yet, whatever is written here. (Convey's default is 4.)",
    ...convey,
  }),
  stats_update_frequency: seconds(0.1, 3600, 5, {
    description: 'Time between two publications of the counters in Convey. lb4 publishes once a second; the key has no effect.',
    ...convey,
  }),
  ring_slots: key(z.int().min(64).max(8192).refine(isPowerOfTwo, { message: 'is not a power of two', abort: true }).default(1024), {
    allowed: 'a power of two, 64–8192',
    description: 'Frames in the receive ring of a worker; 128 KB of memory each.',
    ...lb4,
  }),
  resets_per_second: whole(0, 1_000_000, 1000, {
    description: 'At most so many RST and ICMP errors a second that lb4 makes itself. 0: none.',
    ...lb4,
  }),
  timeouts: key(timeouts.prefault({}), {
    allowed: 'a table, [passthrough.timeouts]',
    description: 'When a connection that shows no traffic is forgotten.',
    ...lb4,
  }),
});

const proxy = z.object({
  workers: whole(0, 64, 0, { description: 'Threads that carry connections. 0: one for each processor.', ...lb4 }),
  grace_period: seconds(0, 86_400, 30, {
    description: 'After SIGTERM no connection is taken any more, and running ones may go on for so long.',
    ...lb4,
  }),
});

/** A whole file. */
export const fileSchema = z.object({
  frontends: key(z.record(z.string(), frontend), {
    allowed: 'tables, [frontends.NAME], at least one',
    description: `An address and port that clients connect to. At least one, at most ${LIMITS.frontends}.`,
    ...convey,
  }),
  backends: key(z.record(z.string(), backend), {
    allowed: 'tables, [backends.NAME], at least one',
    description: 'A group of servers, how to choose one of them, and how to check that they are well.',
    ...convey,
  }),
  stats: key(stats.optional(), {
    allowed: 'a table, [stats]',
    description: 'The statistics server. Without this table there is none.',
    otherwise: 'no statistics server',
    ...convey,
  }),
  passthrough: key(passthrough.prefault({}), {
    allowed: 'a table, [passthrough]',
    description: 'The packet modes, `--passthrough` and `--dsr`. Proxy mode does not read it.',
    ...convey,
  }),
  proxy: key(proxy.prefault({}), {
    allowed: 'a table, [proxy]',
    description: 'Proxy mode. The packet modes do not read it.',
    ...lb4,
  }),
});

/** A file that passed the schema: its own keys, defaults filled in, times still in seconds. */
export type FileConfig = z.infer<typeof fileSchema>;

/** Whether a name of a frontend, backend or server is one: it goes into statistics, logs and scripts. */
export function isGoodName(name: string): boolean {
  return /^[\p{L}\p{N}_.:/@ -]{1,64}$/u.test(name) && name !== '__proto__';
}
export const GOOD_NAME = '1–64 letters, digits, spaces and _ . : / @ -';

/** The schema without the wrappers that say what happens when the key is absent. */
export function core(schema: z.core.$ZodType): z.core.$ZodType {
  const isWrapper = schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault;
  return isWrapper ? core(schema.unwrap()) : schema;
}

/** The schema of the value under `name` in a table, or undefined for an unknown key. */
export function childSchema(table: z.core.$ZodType, name: PropertyKey): z.core.$ZodType | undefined {
  const schema = core(table);
  if (schema instanceof z.ZodRecord) return schema.valueType;
  if (schema instanceof z.ZodObject && Object.hasOwn(schema.shape, name)) return schema.shape[String(name)];
  return undefined;
}

/** The schema at a path of the file, or undefined. */
export function schemaAt(path: readonly PropertyKey[]): z.core.$ZodType | undefined {
  let schema: z.core.$ZodType | undefined = fileSchema;
  for (const part of path) schema = schema && childSchema(schema, part);
  return schema;
}
