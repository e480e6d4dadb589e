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

export const BALANCE = ['maglev', 'roundrobin'] as const;
export const DSR = ['nat', 'l2'] as const;

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
});

const backend = z.object({
  balance: key(z.enum(BALANCE).optional(), {
    allowed: BALANCE.map((name) => `"${name}"`).join(' or '),
    description:
      "How a server is chosen. `maglev`: by a hash of the client's address and port, weighted, steady when servers " +
      'come and go. `roundrobin`: in turn, weighted and smooth.',
    otherwise: "the mode's own: `maglev` in passthrough and DSR",
    ...lb4,
  }),
  dsr: key(z.enum(DSR).default('nat'), {
    allowed: DSR.map((name) => `"${name}"`).join(' or '),
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
  health_check_timeout: seconds(0.05, 300, 3, { description: 'A check that has not connected by then has failed.', ...lb4 }),
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
