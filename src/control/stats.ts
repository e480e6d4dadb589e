/** GET /stats: Convey's document, with what only lb4 knows under `lb4`. */
import { type BackendRow, type ServerRow, type Snapshot, takeSnapshot } from './snapshot.ts';
import type { Counters, PacketCounters, ReloadView, Source, View, WorkerCounters } from './source.ts';

/**
 * The document, ready for JSON. tx is client → server, in bytes of payload.
 * @param isWritable orders are taken from the dashboard
 */
export function statsDocument(source: Source, view: View, isWritable = false) {
  const snapshot = takeSnapshot(source, view);
  const { all, frontends, backends } = snapshot;
  return {
    total_connections: all.total,
    current_connections: all.current,
    total_bytes_tx: all.bytesTx,
    total_bytes_rx: all.bytesRx,
    backends: byName(backends, (backend) => ({ ...totals(backend.counters), servers: health(backend) })),
    frontends: byName(frontends, ({ counters }) => totals(counters)),
    lb4: extras(snapshot, isWritable),
  };
}

function extras(snapshot: Snapshot, isWritable: boolean) {
  const { mode, stopping, reload, host, logLinesLost, connectionLog, discoveryFailing, frontends, backends, packets } = snapshot;
  const ruled = frontends.filter(({ refusals }) => refusals.length > 0);
  const silent = frontends.filter((frontend) => frontend.silent).map(keysIn(frontends));
  return {
    mode,
    stopping,
    reload: reloads(reload),
    dashboard: isWritable ? 'write' : 'read',
    ...(host.length > 0 && { host: host.map(({ what, missing, reason, repairs }) => ({ what, missing, reason, repairs })) }),
    ...(silent.length > 0 && { silent_frontends: silent }),
    ...(ruled.length > 0 && { refusals: byName(ruled, ({ refusals }) => byRule(refusals)) }),
    log: { lines_lost: logLinesLost },
    ...(connectionLog && { connection_log: connectionLogKeys(connectionLog) }),
    ...(discoveryFailing > 0 && { discovery_failing: discoveryFailing }),
    ...(packets && packetKeys(packets)),
    servers: byName(backends, ({ name, servers }) =>
      Object.fromEntries(shown(servers).map((server) => [server.view.address, details(server, name)])),
    ),
  };
}

function byRule(refusals: Snapshot['frontends'][number]['refusals']) {
  return Object.fromEntries(refusals.map(({ rule, refused, wouldRefuse }) => [rule, { refused, would_refuse: wouldRefuse }]));
}

function connectionLogKeys({ lines, lost, overRate, noRoom }: NonNullable<View['connectionLog']>) {
  return { lines, lost, over_rate: overRate, no_room: noRoom };
}

/** Convey's `servers`: up or down. Those that nobody has checked yet, or that take no new connections, are neither. */
function health({ servers }: BackendRow): Record<string, boolean> {
  const judged = servers.filter(({ view: { state } }) => state === 'up' || state === 'down');
  return Object.fromEntries(judged.map(({ view: { address, state } }) => [address, state === 'up']));
}

function totals({ total, current, bytesTx, bytesRx }: Counters) {
  return { total_connections: total, current_connections: current, bytes_tx: bytesTx, bytes_rx: bytesRx };
}

/** Of those with one address not who drains while another one does not: /stats has room for one. */
function shown(servers: readonly ServerRow[]): readonly ServerRow[] {
  const rows = new Map<string, ServerRow>();
  for (const row of servers) if (row.view.state !== 'drain' || !rows.has(row.view.address)) rows.set(row.view.address, row);
  return [...rows.values()];
}

/** JSON leaves out what is undefined: what the mode does not know. */
function details({ view, counters }: ServerRow, backend: string) {
  return {
    name: view.name,
    full_name: `${backend}/${view.name}`,
    state: view.state,
    weight: view.weight,
    file_weight: view.fileWeight,
    set: view.set,
    backup: view.backup,
    damped: view.damped,
    silent: view.silent,
    dead_ends: view.deadEnds,
    load: counters.load,
    check_failures: view.checkFailures,
    checks_unmade: view.checksUnmade,
    check_changes: view.checkChanges,
    last_check: view.lastCheck,
    last_check_result: view.lastResult,
    last_check_age: view.lastCheckAge,
    connect_failures: counters.connectFailures,
    retries: counters.retries,
    ports: counters.ports,
    port_capacity: counters.portCapacity,
    // Last: keys that follow a spread are added one by one, which took 40 ms for 4,096 servers.
    ...totals(counters),
  };
}

function packetKeys(packets: PacketCounters) {
  const { verdicts, flowCapacity, workers, fastPath } = packets;
  const fast = fastPath === undefined ? {} : { fast_path: fastPath };
  return { verdicts, ...workerKeys(packets), flow_capacity: flowCapacity, workers: workers.map(workerKeys), ...fast };
}

function workerKeys({ received, dropped, transmitFailed, flows, halfOpen, halfOpenEvicted, ...more }: WorkerCounters) {
  return {
    frames: { received, dropped, transmit_failed: transmitFailed },
    flows,
    half_open: halfOpen,
    half_open_evicted: halfOpenEvicted,
    datagrams: more.datagrams,
    datagrams_evicted: more.datagramsEvicted,
    affinity_evicted: more.affinityEvicted,
    stations_evicted: more.stationsEvicted,
    syn_floods: more.synFloods,
    client_ways_moved: more.waysMoved,
  };
}

function reloads({ succeeded, failed, lastSucceeded, lastError, at }: ReloadView) {
  return { succeeded, failed, last_succeeded: lastSucceeded, last_error: lastError, at };
}

function byName<Row extends Named, Value>(rows: readonly Row[], value: (row: Row) => Value): Record<string, Value> {
  const key = keysIn(rows);
  return Object.fromEntries(rows.map((row) => [key(row), value(row)]));
}

interface Named {
  readonly name: string;
  readonly protocol: string;
}

/** The name, which is all there is to say of most; where it has several protocols, those that are not TCP stand behind it: `web/udp`. */
function keysIn(rows: readonly Named[]): (row: Named) => string {
  const names = new Set<string>();
  const shared = new Set(rows.flatMap(({ name }) => (names.size === names.add(name).size ? [name] : [])));
  return ({ name, protocol }) => (shared.has(name) && protocol !== 'tcp' ? `${name}/${protocol}` : name);
}
