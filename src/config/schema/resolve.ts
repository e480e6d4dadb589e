/** From a file's keys to the model: names beside their tables, addresses parsed, seconds to milliseconds, all frozen. */
import { PrefixList } from '../../access/prefix-list.ts';
import { MOST_WORKERS } from '../../layout/limits.ts';
import { type Address, addressOf, joinPort, type Network, readHost, readNameserver, readNetwork, withoutPort } from '../address.ts';
import { readCpus } from '../cpus.ts';
import type {
  Backend,
  Config,
  ConnectionLog,
  Control,
  Finder,
  Frontend,
  HealthCheck,
  IcmpEcho,
  Inline,
  Passthrough,
  Server,
  ServerTemplate,
  Timeouts,
} from '../model.ts';
import { fansOut, MODES, type Mode, rewritesAnswers } from '../modes.ts';
import { resolveAccess } from './access.ts';
import { HEALTH_HOLD } from './backend.ts';
import { fanOutServices, resolveFanOuts } from './fan-outs.ts';
import type { FileConfig } from './file.ts';
import { CHECK_INTERVAL, DEFAULT_CHECK } from './health.ts';
import { readStatus } from './http.ts';
import { readPrefix } from './inline.ts';
import { backendProtocols, namesOf, PING, type ServiceProtocol, serviceName, servicesOf, transportOf } from './services.ts';

type BackendKeys = FileConfig['backends'][string];
type ServerKeys = BackendKeys['servers'][string];
type PassthroughKeys = FileConfig['passthrough'];

interface Defaults {
  readonly processors: number;
  readonly statsAddress: string;
  readonly icmpEcho: (frontend: string) => IcmpEcho;
  readonly mode?: Mode | undefined;
  readonly files?: readonly string[];
  readonly lists?: ((path: string) => PrefixList) | undefined;
}

/**
 * Resolves a file that the schema and the cross checks passed.
 * @param mode it may leave pings to lb4 itself
 * @param statsAddress where the statistics are where the file gives no address
 * @param icmpEcho who answers pings of a frontend's address where the file does not say
 * @param files the others that `keys` are from
 * @param lists what is in the files of prefixes
 * @param processors how many this process may use: as many workers as the file leaves to lb4 depend on them
 */
export function resolveConfig(keys: FileConfig, file: string, defaults: Defaults): Config {
  const { processors, statsAddress, mode, files = [] } = defaults;
  const [backends, frontends] = resolveServices(fansOut(mode) ? { ...keys, ...fanOutServices(keys.fan_out) } : keys, defaults);
  const stats = keys.stats && { listen: addressOf(joinPort(keys.stats.address ?? statsAddress, keys.stats.port)) };
  const proxy = { workers: keys.proxy.workers, gracePeriodMs: millisecondsOrNone(keys.proxy.grace_period) };
  const inline = resolveInline(keys.inline);
  // Between interfaces fragments, and what is learnt of clients, are one worker's.
  const passthrough = resolvePassthrough(keys.passthrough, mode !== undefined && !MODES[mode].ownsAddresses ? 1 : processors);
  const nameservers = keys.discovery.nameservers?.map((text) => (readNameserver(text) as Address).text);
  const holdMs = millisecondsOrNone(keys.discovery.hold);
  const others = files.length > 0 && { files };
  const { connection_log: log } = keys;
  return deepFreeze({
    file,
    ...others,
    frontends,
    backends,
    stats,
    control: resolveControl(keys.control),
    ...(log !== undefined && { connectionLog: resolveConnectionLog(log) }),
    passthrough,
    proxy,
    inline,
    nameservers,
    holdMs,
    ...(keys.fan_out && { fanOut: resolveFanOuts(keys.fan_out) }),
  });
}

function resolveServices(keys: FileConfig, { icmpEcho, mode, lists = () => new PrefixList() }: Defaults): [Backend[], Frontend[]] {
  const tables = Object.entries(keys.frontends).map(([label, table]) => {
    const own = keys.backends[table.backend];
    // Servers that rewrite their answers cannot tell pings of the frontend from pings of their own.
    const answersPings = mode !== undefined && rewritesAnswers(mode, own);
    const listen = addressOf(table.listen_addr);
    return { ...table, label, listen, ip: listen.ip, answersPings };
  });
  const services = servicesOf(tables);
  const byBackend = backendProtocols(Object.keys(keys.backends), tables, services);
  const backends = Object.entries(keys.backends).flatMap(([label, table]) => {
    // What is chosen for each datagram anew is in turn, unless the file says how.
    const isPerPacket = tables.some(({ backend, udp_per_packet }) => udp_per_packet && backend === label);
    const balance = table.balance ?? (isPerPacket ? 'roundrobin' : undefined);
    return (byBackend.get(label) ?? []).map((protocol): Backend => {
      const backend = resolveBackend(label, table, protocol);
      return protocol === 'udp' ? { ...backend, balance } : backend;
    });
  });
  const byName = new Map(backends.map((backend) => [backend.name, backend]));
  const frontends = tables.flatMap(
    ({ label, listen, backend, maxconn, udp_per_packet, accept_proxy, client_timeout, icmp_echo, ...keys }, i) =>
      (services[i] ?? []).map(
        (protocol): Frontend => ({
          ...namesOf(label, protocol),
          listen: protocol === PING ? withoutPort(listen) : listen,
          backend: byName.get(serviceName(backend, protocol)) as Backend,
          maxconn,
          acceptProxy: accept_proxy,
          clientTimeoutMs: milliseconds(client_timeout),
          ...(protocol === 'udp' && udp_per_packet && { udpPerPacket: true }),
          ...resolveAccess(keys, lists),
          ...(protocol !== PING && (icmp_echo ?? icmpEcho(label)) === 'balancer' && { icmpEcho: 'balancer' as const }),
        }),
      ),
  );
  return [backends, frontends];
}

function resolveControl({ enabled, path, group, mode, address, dashboard, token, token_file: tokenFile }: FileConfig['control']): Control {
  if (!enabled) return { socket: undefined, tcp: undefined, dashboard: undefined };
  const bits = Number.parseInt(mode ?? (group === undefined ? '0600' : '0660'), 8);
  const secret = { token, tokenFile };
  return {
    socket: { path, group, mode: bits },
    tcp: address === undefined ? undefined : { listen: addressOf(address), ...secret },
    dashboard: dashboard === 'write' ? secret : undefined,
  };
}

function resolveConnectionLog(keys: NonNullable<FileConfig['connection_log']>): ConnectionLog {
  const { to, file = '', syslog, format, sample, rate, attempts } = keys;
  return { target: targetOf(to, file, syslog), format, sample, rate, attempts };
}

function targetOf(to: 'file' | 'journal' | 'syslog', file: string, syslog: string): ConnectionLog['target'] {
  if (to === 'journal') return { to };
  if (to === 'file') return { to, path: file };
  return syslog.startsWith('/') ? { to, path: syslog } : { to, address: addressOf(syslog) };
}

function resolveInline(keys: FileConfig['inline']): Inline | undefined {
  if (keys === undefined) return undefined;
  const { backend, frontends } = keys;
  if (Array.isArray(frontends)) return { backend, frontends: frontends.map((name) => ({ name, clients: [] })) };
  const named = Object.entries(frontends).map(([name, { address }]) => {
    return { name, clients: [address].flat().flatMap((text) => readPrefix(text) ?? []) };
  });
  return { backend, frontends: named };
}

function resolveBackend(label: string, keys: BackendKeys, protocol: ServiceProtocol): Backend {
  const tables = Object.entries(keys.servers).map(([name, { weight, maxconn, backup, state, ...where }]) => {
    return { place: placeOf(where), keys: { name, weight, maxconn, backup, ...(state !== undefined && { state }) } };
  });
  const all = tables.flatMap(({ place, keys }): Server[] => ('kind' in place ? [] : [{ ...keys, addr: place }]));
  const templates = tables.flatMap(({ place, keys }): ServerTemplate[] => ('kind' in place ? [{ ...keys, finder: place }] : []));
  // Pings know no ports: of servers that differ by them alone the first one gets them.
  const hosts = new Set<string>();
  const servers = protocol === PING ? all.filter(({ addr }) => hosts.size < hosts.add(addr.ip).size) : all;
  return {
    ...namesOf(label, protocol),
    protocol: transportOf(protocol),
    balance: keys.balance,
    ...glbOf(keys),
    dsr: keys.dsr,
    ...tunnelOf(keys),
    nat: keys.nat,
    ...(keys.src_ip_rewrite !== undefined && { srcIpRewrite: rewriteOf(keys.src_ip_rewrite) }),
    healthCheck: resolveHealthCheck(keys, protocol),
    servers,
    ...(templates.length > 0 && { templates }),
    sourceAddrs: keys.source_addrs ?? [],
    sendProxy: keys.send_proxy,
    connectTimeoutMs: milliseconds(keys.connect_timeout),
    serverTimeoutMs: milliseconds(keys.server_timeout),
    retries: keys.retries,
    maxQueue: keys.max_queue,
    queueTimeoutMs: milliseconds(keys.queue_timeout),
    slowStartMs: millisecondsOrNone(keys.slow_start),
    drainTimeoutMs: millisecondsOrNone(keys.drain_timeout),
    ...(keys.affinity > 0 && { affinityMs: milliseconds(keys.affinity), affinityAcross: keys.affinity_across }),
    ...(protocol !== 'tcp' && { udpFailover: keys.udp_failover }),
  };
}

function tunnelOf({ dsr, gue_port, source_addr: source }: BackendKeys): Pick<Backend, 'tunnel'> {
  const port = { nat: undefined, l2: undefined, gue: gue_port, ipip: 0 }[dsr];
  return port === undefined ? {} : { tunnel: { port, source } };
}

/** Whose keys are there: that was checked. */
function glbOf(keys: BackendKeys): Pick<Backend, 'glb' | 'healthHoldMs'> {
  const { balance, hash_key, seed, hash_fields, alt_hash_fields, health_hold = HEALTH_HOLD } = keys;
  if (balance !== 'glb') return {};
  return {
    healthHoldMs: millisecondsOrNone(health_hold),
    glb: { hashKey: hash_key ?? '', seed: seed ?? '', hashFields: hash_fields ?? ['source'], altHashFields: alt_hash_fields ?? [] },
  };
}

/** Where a server is, or how it is found; one of the keys says so. */
function placeOf({ addr = '', srv, exec, exec_interval }: Pick<ServerKeys, 'addr' | 'srv' | 'exec' | 'exec_interval'>): Address | Finder {
  if (exec !== undefined) return { kind: 'exec', command: exec, intervalMs: milliseconds(exec_interval) };
  if (srv !== undefined) return { kind: 'srv', name: srv };
  const host = readHost(addr);
  if ('problem' in host) throw new RangeError(`${addr} ${host.problem}`);
  return 'host' in host ? { kind: 'name', ...host } : host;
}

/** Both were checked. */
function rewriteOf({ clients, as }: NonNullable<BackendKeys['src_ip_rewrite']>) {
  return { clients: readNetwork(clients) as Network, as: readNetwork(as) as Network };
}

function resolveHealthCheck(keys: BackendKeys, protocol: ServiceProtocol): HealthCheck {
  const [type, ...also] = [keys.health_check ?? DEFAULT_CHECK[protocol]].flat();
  return {
    type,
    ...(also.length > 0 && { also }),
    http: { path: keys.health_check_path, status: readStatus(String(keys.health_check_status)) ?? [], host: keys.health_check_host },
    command: keys.health_check_command ?? [],
    udp: { send: keys.health_check_send, expect: keys.health_check_expect },
    port: keys.health_check_port,
    jitter: keys.health_check_jitter,
    intervalMs: milliseconds(keys.health_check_interval || CHECK_INTERVAL),
    timeoutMs: milliseconds(keys.health_check_timeout),
    rise: keys.health_check_rise,
    fall: keys.health_check_fall,
  };
}

function resolvePassthrough(keys: PassthroughKeys, processors: number): Passthrough {
  const cpus = cpusOf(keys);
  return {
    connectionTrackerCapacity: keys.connection_tracker_capacity,
    workers: keys.workers || workersFor(keys, cpus, processors),
    cpus,
    statsUpdateMs: milliseconds(keys.stats_update_frequency),
    ringSlots: keys.ring_slots,
    busyPollUs: keys.busy_poll,
    io: keys.io,
    fastPath: keys.fast_path,
    resetsPerSecond: keys.resets_per_second,
    resetsPerSource: keys.resets_per_source,
    synFloodFrom: keys.syn_flood_from,
    ...(keys.respect_firewall !== undefined && { respectFirewall: keys.respect_firewall }),
    timeouts: resolveTimeouts(keys.timeouts),
  };
}

function cpusOf({ cpus }: PassthroughKeys): readonly number[] | undefined {
  const read = cpus === undefined ? undefined : readCpus(cpus);
  return read === undefined || 'problem' in read ? undefined : read.cpus;
}

/** Half of the processors: the others are for the kernel's part of each packet, and for whatever else the host does. */
function workersFor(keys: PassthroughKeys, cpus: readonly number[] | undefined, processors: number): number {
  if (keys.io === 'pcap') return 1;
  return cpus?.length ?? Math.max(1, Math.min(Math.floor(processors / 2), MOST_WORKERS, keys.connection_tracker_capacity));
}

function resolveTimeouts(keys: PassthroughKeys['timeouts']): Timeouts {
  return {
    synMs: milliseconds(keys.syn),
    establishedMs: milliseconds(keys.established),
    finMs: milliseconds(keys.fin),
    timeWaitMs: milliseconds(keys.time_wait),
    closedMs: milliseconds(keys.closed),
    udpMs: milliseconds(keys.udp),
    udpStreamMs: milliseconds(keys.udp_stream),
    icmpMs: milliseconds(keys.icmp),
  };
}

/** At least one: a timer of 0 ms would spin. */
function milliseconds(seconds: number): number {
  return Math.max(1, Math.round(seconds * 1000));
}

/** Where 0 has a meaning of its own. */
function millisecondsOrNone(seconds: number): number {
  return seconds === 0 ? 0 : milliseconds(seconds);
}

function deepFreeze<T extends object>(value: T): T {
  for (const child of Object.values(value)) if (typeof child === 'object' && !Object.isFrozen(child)) deepFreeze(child);
  return Object.freeze(value);
}
