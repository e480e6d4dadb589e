/** The keys of a backend and of its servers. */
import { z } from 'zod';
import { GLB_STATES, HASH_FIELDS, SCHEDULERS, type SchedulerName } from '../../balance/index.ts';
import { LIMITS, MOST_CONNECTIONS } from '../../layout/limits.ts';
import { CLIENT_PORTS, GUE_PORT, portCount } from '../../layout/ports.ts';
import { nameProblem, networkProblem, readHost, serverProblem, sourceProblem } from '../address.ts';
import { DSR, NAT, SEND_PROXY } from '../model.ts';
import { argument, COMMAND, healthCheckKeys } from './health.ts';
import { ADDRESS, checked, convey, flag, IDLE_SECONDS, key, lb4, oneOf, seconds, whole } from './key.ts';

const CHOOSES: Readonly<Record<SchedulerName, string>> = {
  maglev: "by a hash of the client's address and port, steady when servers come and go",
  source: 'the same by the address alone, so that a client stays with its server',
  roundrobin: 'in turn, smoothly',
  leastconn: 'the one with the fewest connections',
  random: 'the less loaded of two drawn by lot',
  first: 'the first in the file that is below its `maxconn`',
  glb: "by GLB's table, without regard to weights or loads, so that many balancers agree on every packet ([modes](modes.md#glbs-table))",
  carp: "by CARP's scores for the client's address, for those who come from Squid ([modes](modes.md#carp))",
};
const schedulers = Object.entries(CHOOSES)
  .map(([name, how]) => `\`${name}\`: ${how}.`)
  .join(' ');

function addrProblem(text: string): string | undefined {
  const address = readHost(text);
  if ('problem' in address) return address.problem;
  return 'host' in address ? undefined : serverProblem(address);
}

/** How messages and the reference write where a server is. */
export const SERVER_ADDRESS = `${ADDRESS}, or a name and a port, "app.internal:80"`;

const SOURCES = `IPv4 addresses of this host without a port, 1–${LIMITS.sources} of them, ["192.0.2.1", "192.0.2.2"]`;
const sourceAddr = key(checked(sourceProblem), { allowed: SOURCES, description: 'One of them.', ...lb4 });

const SOURCE = 'an IPv4 address of this host without a port, "192.0.2.1"';
/** Seconds, as GLB has it. */
export const HEALTH_HOLD = 10;

const NETWORK = 'an IPv4 network, "10.0.0.0/24"';
const network = (description: string) => key(checked(networkProblem), { allowed: NETWORK, description, ...lb4 });
const rewrite = z.object({
  clients: network('Whose addresses are rewritten.'),
  as: network('What they become: a network of the same length, none of whose addresses is a server, a client or of this host.'),
});

const server = z.object({
  addr: key(checked(addrProblem).optional(), {
    allowed: SERVER_ADDRESS,
    description:
      'Where the server listens. No two servers of a backend may share it. A name is looked up while lb4 runs, and each of its addresses ' +
      'is a server ([operations](operations.md#servers-that-are-found)).',
    otherwise: 'one of `addr`, `srv` and `exec` is required',
    ...convey,
  }),
  srv: key(checked(nameProblem).optional(), {
    allowed: 'the name of a service, "_http._tcp.app.internal"',
    description:
      'Instead of `addr`: each SRV record of that name, with its port and weight, is a server; those of another than the best priority are backups.',
    otherwise: 'not asked for',
    ...lb4,
  }),
  exec: key(z.array(argument).min(1).optional(), {
    allowed: COMMAND,
    description:
      'Instead of `addr`: a program that prints the servers, `IP:PORT` in a line each, and after it, if wanted, `weight=N` and `backup`. It runs ' +
      'without a shell, and has ten seconds.',
    otherwise: 'not run',
    ...lb4,
  }),
  exec_interval: seconds(1, 86_400, 10, {
    description: 'Time between two runs of `exec`, from the end of one to the start of the next.',
    ...lb4,
  }),
  weight: whole(0, 65535, 1, {
    description:
      'The share of new connections, relative to the other servers of the backend. 0: no new connections. With `srv` and `exec`, the weights ' +
      'that they give are multiplied by it.',
    ...convey,
  }),
  maxconn: whole(0, MOST_CONNECTIONS, 0, {
    description: 'Connections at a time. 0: no limit. When all servers are full, new ones wait (proxy) or are refused (passthrough, DSR).',
    ...lb4,
  }),
  backup: flag({ description: 'Gets connections only while no other server of the backend is up.', ...lb4 }),
  state: key(z.enum(GLB_STATES).optional(), {
    allowed: oneOf(GLB_STATES),
    description:
      'With `balance = "glb"`. `active`: as usual. `draining`: the second of its rows wherever that one is active, so that new connections go there. `filling`: as active, but ' +
      "not in a draining server's place. `inactive`: in no row, and not checked. One server at a time should be another than active.",
    otherwise: '`active`',
    ...lb4,
  }),
});

const HASH_KEY = '32 hexadecimal digits, "0123456789abcdef0123456789abcdef"';
const hashKey = (description: string) =>
  key(checked((text) => (/^[\da-f]{32}$/i.test(text) ? undefined : 'is no such key')).optional(), {
    allowed: HASH_KEY,
    description,
    otherwise: 'required with `balance = "glb"`',
    ...lb4,
  });
const FIELDS = `a list of ${oneOf(HASH_FIELDS)}`;
const hashField = key(z.enum(HASH_FIELDS), { allowed: oneOf(HASH_FIELDS), description: 'One of them.', ...lb4 });

export const backend = z.object({
  balance: key(z.enum(SCHEDULERS).optional(), {
    allowed: oneOf(SCHEDULERS),
    description: `How a server is chosen, by weight except for \`first\`. ${schedulers}`,
    otherwise: "the mode's own: `roundrobin` in proxy mode, `maglev` in passthrough and DSR",
    ...lb4,
  }),
  hash_key: hashKey('With `balance = "glb"`: the secret of the hash by which packets find their row; the same on all balancers.'),
  seed: hashKey(
    'With `balance = "glb"`: the secret by which servers are ranked in each row; the same on all balancers, another one for each backend.',
  ),
  hash_fields: key(z.array(hashField).min(1).optional(), {
    allowed: FIELDS,
    description: 'With `balance = "glb"`: what of a packet is hashed. By `source` alone a client stays with its server.',
    otherwise: '`["source"]`',
    ...lb4,
  }),
  alt_hash_fields: key(z.array(hashField).optional(), {
    allowed: FIELDS,
    description:
      'With `balance = "glb"` and `dsr = "gue"`, while `hash_fields` are being changed: the ones of before, or to come, whose servers get what the others do not know.',
    otherwise: 'none',
    ...lb4,
  }),
  health_hold: key(z.number().min(0).max(3600).optional(), {
    allowed: 'seconds, 0–3600',
    description:
      'With `balance = "glb"`: what checks say changes the table at most once in so long, so that a check that flaps does not swap rows each time. The first ' +
      'change after a rest is taken at once, as is the first result of each server. 0: each change is.',
    otherwise: `\`${HEALTH_HOLD}\``,
    ...lb4,
  }),
  affinity: seconds(0, 604_800, 0, {
    description:
      'A client address stays with its server for so long after its last connection, whatever the scheduler would choose, while that server is ' +
      'up and below its `maxconn`. 0: each connection is chosen for. Passthrough, and DSR where the scheduler does not hash; proxy mode ' +
      'refuses it.',
    ...lb4,
  }),
  affinity_across: flag({
    description: "One server for all protocols of the backend's frontends: a client's UDP goes where its TCP went.",
    ...lb4,
  }),
  slow_start: seconds(0, 3600, 0, {
    description: 'A server that comes back after a failure grows to its full weight in this time. 0: at once.',
    ...lb4,
  }),
  drain_timeout: seconds(0, 604_800, 300, {
    description: 'When a server or frontend leaves the file, its running connections may go on for this long. 0: they end at once.',
    ...lb4,
  }),
  udp_failover: key(z.boolean().default(true), {
    allowed: 'true or false',
    description:
      'UDP flows of a server that goes down end at once, and their next datagrams go to another one. `false`: they stay until they are idle. ' +
      'TCP connections stay either way.',
    ...lb4,
  }),
  dsr: key(z.enum(DSR).default('nat'), {
    allowed: oneOf(DSR),
    description:
      "How direct server return reaches the servers; other modes do not read it. `nat`: the server's address as destination, " +
      "and the server rewrites its answers' source. `l2`: only the MAC address changes, and the server has the frontend's " +
      'address on its loopback; both share a link. `gue` and `ipip`: the packet as it came, inside of another one to the server, which unwraps it ' +
      "and has the frontend's address, too; it may be anywhere. `gue` is Generic UDP Encapsulation as GLB sends it, `ipip` IP in IP (RFC 2003). " +
      '`lb4 rules --dsr --for SERVER_IP` prints what the server needs.',
    ...lb4,
  }),
  gue_port: whole(1, 65535, GUE_PORT, {
    description: 'With `dsr = "gue"`: the UDP port at which the servers unwrap packets.',
    ...lb4,
  }),
  source_addr: key(checked(sourceProblem).optional(), {
    allowed: SOURCE,
    description:
      'With `dsr = "gue"` and `"ipip"`: the address of this host that wrapped packets come from, and the way to the servers is asked for.',
    otherwise: "this host's address on the way to each server",
    ...lb4,
  }),
  nat: key(z.enum(NAT).default('full'), {
    allowed: oneOf(NAT),
    description:
      'What passthrough changes. `full`: both addresses, so servers see this host. `destination`: the destination alone, so servers see their ' +
      'clients, and there is no limit of ports; their answers must come back through this host (`lb4 rules --for SERVER_IP` prints what a server ' +
      'needs). Direct server return does not read it.',
    ...lb4,
  }),
  src_ip_rewrite: key(rewrite.optional(), {
    allowed: 'a table with `clients` and `as`',
    description:
      'With `nat = "destination"`: servers see clients of one network under the addresses of another, `{ clients = "10.0.0.0/24", as = "20.0.0.0/24" }`; ' +
      'answers to these come back to those. Servers must have their way to `as` through this host. With several `workers` they see most such clients by ' +
      'another port as well: one whose answers come to the worker that has the client.',
    ...lb4,
  }),
  source_addrs: key(z.array(sourceAddr).min(1).max(LIMITS.sources).optional(), {
    allowed: SOURCES,
    description:
      `Passthrough: addresses of this host that connections to the servers leave from, each with ${portCount(CLIENT_PORTS)} ports a ` +
      'server. One of them is taken that has most ports left. The servers must answer to them by this host. Other modes refuse the key.',
    otherwise: 'the address that the client connected to',
    ...lb4,
  }),
  send_proxy: key(z.enum(SEND_PROXY).optional(), {
    allowed: oneOf(SEND_PROXY),
    description:
      "Proxy mode: tells the servers the client's address by a PROXY protocol header of that version. `http` checks send one for a " +
      "connection of lb4's own.",
    otherwise: 'no header',
    ...lb4,
  }),
  connect_timeout: seconds(0.05, 300, 5, { description: 'Proxy mode: a server that has not accepted by then has failed.', ...lb4 }),
  server_timeout: seconds(0.1, 604_800, IDLE_SECONDS, { description: "Proxy mode: the server's silence that ends a connection.", ...lb4 }),
  retries: whole(0, 100, 3, { description: 'Proxy mode: after a failed connect, this many other servers are tried.', ...lb4 }),
  max_queue: whole(0, 1_000_000, 1024, {
    description: 'Proxy mode: this many connections wait while all servers are at their `maxconn`; further ones are refused.',
    ...lb4,
  }),
  queue_timeout: seconds(0.05, 3600, 5, { description: 'Proxy mode: a connection that waited this long is refused.', ...lb4 }),
  ...healthCheckKeys,
  servers: key(z.record(z.string(), server).default({}), {
    allowed: 'tables, [backends.NAME.servers.NAME]',
    description: `A server of the backend. At most ${LIMITS.servers} in a file.`,
    ...convey,
  }),
});
