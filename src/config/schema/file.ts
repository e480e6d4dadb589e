/**
 * Every configuration key: its type, range, default and meaning, once. ../load.ts checks files against it, ../check/keys.ts
 * takes its wording from it, and ../reference.ts renders it as docs/configuration.md. Backends have files of their own.
 */
import { z } from 'zod';
import { LIMITS, MOST_CONNECTIONS, MOST_WORKERS } from '../../layout/limits.ts';
import { joinPort, listenProblem, readAddress, readNameserver, readPort, readService } from '../address.ts';
import { LAST_CPU, readCpus } from '../cpus.ts';
import { FAST_PATHS, ICMP_ECHO, IO } from '../model.ts';
import { accessKeys } from './access.ts';
import { backend } from './backend.ts';
import { connectionLog } from './connection-log.ts';
import { control } from './control.ts';
import { fanOut } from './fan-out.ts';
import { respectFirewall } from './firewall-sets.ts';
import { inline } from './inline.ts';
import { ADDRESS, checked, convey, flag, IDLE_SECONDS, key, lb4, oneOf, seconds, whole } from './key.ts';
import { FILE_PROTOCOLS } from './services.ts';

export const frontend = z.object({
  listen_addr: key(checked(listenAddrProblem), {
    allowed: ADDRESS,
    description:
      'Where clients connect. In passthrough and DSR it must be an IPv4 address of this host. Frontends may share it by `protocol` alone; with `icmp` it has no port.',
    ...convey,
  }),
  protocol: key(z.enum(FILE_PROTOCOLS).default('tcp'), {
    allowed: oneOf(FILE_PROTOCOLS),
    description:
      'What clients speak. Frontends may share an address and port by different protocols. `icmp`: pings, of an address without a port. ' +
      '`all`: TCP and UDP of that port, and pings of that address.',
    ...lb4,
  }),
  backend: key(z.string(), {
    allowed: 'the name of a backend, a string',
    description: 'The backend that takes the connections: `NAME` of a `[backends.NAME]` in the same file.',
    ...convey,
  }),
  icmp_echo: key(z.enum(ICMP_ECHO).optional(), {
    allowed: oneOf(ICMP_ECHO),
    description:
      'Who answers pings of the address of a frontend of `tcp` or `udp`, in passthrough and DSR, unless a frontend takes them to its servers. ' +
      '`balancer`: lb4, while a server of a frontend there is up, else nobody. `kernel`: this host, for as long as it runs.',
    otherwise: '`balancer` where the frontend names its `protocol`, else `kernel`',
    ...lb4,
  }),
  maxconn: whole(0, MOST_CONNECTIONS, 0, {
    description: 'Connections at a time; further ones wait in the kernel (proxy) or are refused (passthrough, DSR). 0: no limit.',
    ...lb4,
  }),
  udp_per_packet: flag({
    description:
      'UDP: a server is chosen for each datagram, and its answer comes back by itself (DNS, syslog). Otherwise the datagrams of a client and port ' +
      'stay with one server until they are idle. With it `affinity` has no effect, and a backend that names no `balance` has `roundrobin`; those that ' +
      'hash are refused.',
    ...lb4,
  }),
  accept_proxy: flag({
    description: 'Proxy mode: clients are other proxies, and begin with a PROXY protocol header, v1 or v2. Without one they are refused.',
    ...lb4,
  }),
  ...accessKeys,
  client_timeout: seconds(0.1, 604_800, IDLE_SECONDS, { description: "Proxy mode: the client's silence that ends a connection.", ...lb4 }),
});

function listenAddrProblem(text: string): string | undefined {
  const address = readService(text);
  if (!('problem' in address)) return listenProblem(address);
  // That of an address without its port is the protocol's affair (check/services.ts).
  const whole = readAddress(text);
  return 'problem' in whole ? whole.problem : address.problem;
}

function isPowerOfTwo(number: number): boolean {
  return Number.isInteger(Math.log2(number));
}

function cpusProblem(text: string): string | undefined {
  const read = readCpus(text);
  return 'problem' in read ? read.problem : undefined;
}

/** The port of the statistics where the file names none; of their address origin.ts decides. */
export const STATS_PORT = '7000';

const stats = z.object({
  address: key(checked((text) => listenAddrProblem(joinPort(text, 1))).optional(), {
    allowed: 'an IPv4 or IPv6 address, "127.0.0.1" or "::1"',
    description:
      'Where the statistics are served: `0.0.0.0` is every IPv4 address of this host, `127.0.0.1` only local readers. IPv6 in proxy ' +
      'mode only.',
    otherwise: '`127.0.0.1`; in a file that has keys of Convey alone `0.0.0.0`, as there, with a warning',
    ...lb4,
  }),
  port: key(z.union([z.string(), z.number()]).superRefine(checkPort).default(STATS_PORT), {
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
  established: seconds(1, 604_800, IDLE_SECONDS, {
    description: 'Silence on an open connection (RFC 5382 REQ-5: at least 2 h 4 min).',
    ...lb4,
  }),
  fin: seconds(1, 3600, 120, { description: 'One side has sent its FIN, the other has not, and nothing is sent.', ...lb4 }),
  time_wait: seconds(1, 3600, 60, { description: 'After both FINs; the port is not given out again before.', ...lb4 }),
  closed: seconds(1, 3600, 10, { description: 'After a RST.', ...lb4 }),
  udp: seconds(1, 3600, 30, { description: 'UDP, while the server has not answered.', ...lb4 }),
  udp_stream: seconds(1, 86_400, 120, { description: 'UDP, once both sides have spoken (RFC 4787 REQ-5: at least 2 min).', ...lb4 }),
  icmp: seconds(1, 3600, 30, { description: 'Pings.', ...lb4 }),
});

const passthrough = z.object({
  connection_tracker_capacity: whole(1, MOST_CONNECTIONS, 262_144, {
    description:
      'Connections at a time, of all workers together: each has an equal share, rounded up. 256 bytes of memory each, and 11 MB a worker. In a ' +
      'full table the oldest unfinished handshake makes way, where there is none new connections are refused; an established one of TCP is ' +
      "never dropped. (Convey's default is 1000.)",
    ...convey,
  }),
  workers: whole(0, MOST_WORKERS, 0, {
    description:
      'Threads that forward packets, each with a socket, a flow table and source ports of its own ([operations](operations.md#workers)). ' +
      '0: one for each of `cpus`; without them one on a host with up to 2 processors, else half as many as it has. `io = "pcap"` has one. ' +
      "(Convey's default is 4.)",
    ...convey,
  }),
  cpus: key(checked(cpusProblem).optional(), {
    allowed: `processors, 0–${LAST_CPU}, none of them twice, "2-5,8"`,
    description:
      'The processors that workers are pinned to, the first worker to the first one and so on; where there are more workers, they go round. ' +
      'Each must be one that lb4 may use.',
    otherwise: 'workers run where the kernel likes',
    ...lb4,
  }),
  stats_update_frequency: seconds(0.1, 3600, 5, {
    description: 'Time between two publications of the counters in Convey. lb4 publishes once a second; the key has no effect.',
    ...convey,
  }),
  ring_slots: key(z.int().min(64).max(8192).refine(isPowerOfTwo, { message: 'is not a power of two', abort: true }).default(1024), {
    allowed: 'a power of two, 64–8192',
    description: 'Frames in the receive ring of each worker; 128 KB of memory each.',
    ...lb4,
  }),
  fast_path: key(z.enum(FAST_PATHS).default('off'), {
    allowed: oneOf(FAST_PATHS),
    description:
      'Whether the kernel itself forwards the packets of established connections, which then do not visit lb4 ' +
      '([operations](operations.md#the-fast-path)). `tc`: at the ingress of every Ethernet interface. `xdp`: in drivers as well, where they ' +
      'know XDP. `auto`: XDP on hardware, tc on everything; where it cannot be had, lb4 goes on without, and says so.',
    ...lb4,
  }),
  busy_poll: whole(0, 10_000, 10, {
    description:
      'Microseconds that a worker looks at its ring before it sleeps. A wake-up by the kernel takes some: longer looks may answer sooner where ' +
      'processors are idle, and cost their time while there is little traffic; without any, all sleep. 0: at once.',
    ...lb4,
  }),
  io: key(z.enum(IO).default('ring'), {
    allowed: oneOf(IO),
    description:
      'What moves packets. `ring`: a ring shared with the kernel (AF_PACKET). `pcap`: libpcap, for hosts where the ring cannot be had; several ' +
      'times slower, and it needs two npm packages ([operations](operations.md#without-the-ring)).',
    ...lb4,
  }),
  resets_per_second: whole(0, 1_000_000, 1000, {
    description:
      'At most this many RST and ICMP errors a second that lb4 makes itself, shared out among its workers (fewer than `workers` leave ' +
      'some with none). 0: none.',
    ...lb4,
  }),
  resets_per_source: whole(0, 1_000_000, 100, {
    description: 'Of these, at most so many to one address, shared out likewise. 0: none.',
    ...lb4,
  }),
  syn_flood_from: whole(0, 10_000_000, 4096, {
    description:
      'With so many half-open connections, shared out among the workers, while SYNs less twice the connections that came of them are more than ' +
      'half as many a second (2,048 by default), a SYN is taken in only when it comes the second time; one to a frontend also while such SYNs fill its limit or its servers’ ([security](security.md#floods-of-syns)). 0: never.',
    ...lb4,
  }),
  respect_firewall: respectFirewall,
  timeouts: key(timeouts.prefault({}), {
    allowed: 'a table, [passthrough.timeouts]',
    description: 'When a connection that shows no traffic is forgotten.',
    ...lb4,
  }),
});

const NAMESERVERS = 'IP addresses, with a port or without, 1–8 of them, ["192.0.2.53", "192.0.2.54:5353"]';

function nameserverProblem(text: string): string | undefined {
  const address = readNameserver(text);
  return 'problem' in address ? address.problem : undefined;
}

const discovery = z.object({
  nameservers: key(
    z
      .array(key(checked(nameserverProblem), { allowed: NAMESERVERS, description: 'One of them.', ...lb4 }))
      .min(1)
      .max(8)
      .optional(),
    {
      allowed: NAMESERVERS,
      description: 'Who is asked for the names and services of servers.',
      otherwise: 'those of /etc/resolv.conf; a name that they do not know is looked up as other programs of this host do',
      ...lb4,
    },
  ),
  hold: seconds(0, 86_400, 0, {
    description:
      'A server that answers for a name or service have no more drains after so long without it: for nameservers that give a part of the servers at a time. Not for `exec`.',
    ...lb4,
  }),
});

const PATH = 'an absolute path, "/etc/glb/forwarding_table.src.json"';
const path = checked((text) => (/^\/[^\0]*[^/\0]$/.test(text) ? undefined : 'is no absolute path of a file'));

const glb = z.object({
  forwarding_table: key(path, {
    allowed: PATH,
    description:
      'GLB\'s forwarding table in JSON: each of its tables becomes a backend with `balance = "glb"` and `dsr = "gue"`, and its addresses frontends, as `lb4 glb import` prints them. It is ' +
      'watched and taken over as this file is; what cannot be carried over is warned of.',
    ...lb4,
  }),
  director: key(path.optional(), {
    allowed: 'an absolute path, "/etc/glb/director.conf"',
    description: "The director's configuration, for hash fields and the address that packets leave from. Watched likewise.",
    otherwise: "GLB's defaults: the client's address is hashed, and the kernel chooses",
    ...lb4,
  }),
});

const proxy = z.object({
  workers: whole(0, MOST_WORKERS, 0, { description: 'Threads that carry connections. 0: one for each processor.', ...lb4 }),
  grace_period: seconds(0, 86_400, 30, {
    description: 'After SIGTERM no connection is taken any more, and running ones may go on for this long.',
    ...lb4,
  }),
});

/** A whole file. */
export const fileSchema = z.object({
  frontends: key(z.record(z.string(), frontend).prefault({}), {
    allowed: 'tables, [frontends.NAME], at least one',
    description: `An address and port that clients connect to. At least one, at most ${LIMITS.frontends}.`,
    ...convey,
  }),
  backends: key(z.record(z.string(), backend).prefault({}), {
    allowed: 'tables, [backends.NAME], at least one',
    description: `A group of servers, how to choose one of them, and how to check that they are well. At most ${LIMITS.backends}.`,
    ...convey,
  }),
  fan_out: key(z.record(z.string(), fanOut).optional(), {
    allowed: 'tables, [fan_out.NAME]',
    description:
      'A port that the kernel alone spreads over processes of this host: with `--fan-out`, and by `lb4 rules --fan-out` without a running lb4 ' +
      '([modes](modes.md#fan-out-lb4---fan-out)). Other modes do not read it, and `--fan-out` reads no frontends and backends, which such a file need not have.',
    otherwise: 'none: no mode `--fan-out`',
    ...lb4,
  }),
  stats: key(stats.optional(), {
    allowed: 'a table, [stats]',
    description: 'The statistics server. Without this table there is none.',
    otherwise: 'no statistics server',
    ...convey,
  }),
  control: key(control.prefault({}), {
    allowed: 'a table, [control]',
    description: 'Where a running lb4 takes orders: `lb4 status`, `lb4 set server` and others ([control](control.md)).',
    ...lb4,
  }),
  connection_log: key(connectionLog.optional(), {
    allowed: 'a table, [connection_log]',
    description: 'A line for each connection that has ended ([operations](operations.md#the-connection-log)).',
    otherwise: 'no connection log',
    ...lb4,
  }),
  passthrough: key(passthrough.prefault({}), {
    allowed: 'a table, [passthrough]',
    description: 'The packet modes, `--passthrough` and `--dsr`. Proxy mode does not read it.',
    ...convey,
  }),
  inline: key(inline.optional(), {
    allowed: 'a table, [inline]',
    description: 'The interfaces that lb4 stands between, with `--inline`. Other modes do not read it.',
    otherwise: 'none: no mode `--inline`',
    ...lb4,
  }),
  discovery: key(discovery.prefault({}), {
    allowed: 'a table, [discovery]',
    description: 'How servers are found that the file has no address of.',
    ...lb4,
  }),
  glb: key(glb.optional(), {
    allowed: 'a table, [glb]',
    description: "Services from GLB's own files, beside those of this one.",
    otherwise: 'none',
    ...lb4,
  }),
  proxy: key(proxy.prefault({}), {
    allowed: 'a table, [proxy]',
    description: 'Proxy mode. The packet modes do not read it.',
    ...lb4,
  }),
});

/** A file that passed the schema: its own keys, defaults filled in, times still in seconds. */
export type FileConfig = z.infer<typeof fileSchema>;
