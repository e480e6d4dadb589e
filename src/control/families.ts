/**
 * Every metric of lb4's own, and where its values come from. Names are HAProxy's with another prefix, so that dashboards and
 * alerts carry over: `in` comes from clients, `out` goes to them. docs/operations.md explains each.
 */
import type { Labelled, LabelledRows, Labels } from './rows.ts';
import type { Counters, ServerState, Source } from './source.ts';

/** What a source can tell. */
type Has = (source: Source) => boolean;

export interface Family {
  readonly name: string;
  readonly type: 'counter' | 'gauge';
  readonly help: string;
  readonly labels: readonly string[];
  /** Which sources have it; all of them unless told. */
  readonly isOf?: Has;
  /** Hands over every sample. A callback, and no array of theirs: with thousands of servers there are many. */
  each(from: LabelledRows, take: (labels: Labels, value: number) => void): void;
}

/** HAProxy's numbers. */
const SERVER_STATUS: Record<ServerState, number> = { down: 0, up: 1, unknown: 1, drain: 3 };

/** Makes families that have one sample a row. */
function perRow<Row>(prefix: string, labels: readonly string[], rows: (from: LabelledRows) => readonly Labelled<Row>[]) {
  return (type: Family['type'], name: string, help: string, value: (row: Row) => number | undefined, isOf?: Has): Family => ({
    name: `${prefix}_${name}`,
    type,
    help,
    labels,
    ...(isOf && { isOf }),
    each(from, take) {
      for (const { labels, row } of rows(from)) {
        const known = value(row);
        if (known !== undefined) take(labels, known);
      }
    },
  });
}

type PerRow<Row> = ReturnType<typeof perRow<Row>>;

/** The four that frontends, backends and servers have in common. */
function traffic<Row extends { readonly counters: Counters }>(family: PerRow<Row>): Family[] {
  return [
    family('counter', 'bytes_in_total', 'Payload bytes from clients.', ({ counters }) => counters.bytesTx),
    family('counter', 'bytes_out_total', 'Payload bytes to clients.', ({ counters }) => counters.bytesRx),
    family('counter', 'sessions_total', 'Connections whose handshake was completed.', ({ counters }) => counters.total),
    family('gauge', 'current_sessions', 'Connections open now.', ({ counters }) => counters.current),
  ];
}

const frontend = perRow('lb4_frontend', ['frontend', 'protocol'], ({ frontends }) => frontends);
const refusal = perRow('lb4_frontend', ['frontend', 'protocol', 'rule'], ({ refusals }) => refusals);
const backend = perRow('lb4_backend', ['backend', 'protocol'], ({ backends }) => backends);
const server = perRow('lb4_server', ['backend', 'server', 'protocol'], ({ servers }) => servers);
const worker = perRow('lb4_worker', ['worker'], ({ workers }) => workers);
const portPool = perRow('lb4_port_pool', ['backend', 'server', 'protocol'], ({ servers }) => servers);

const PACKETS: Has = ({ packets }) => packets !== undefined;
const RULES: Has = ({ refusals }) => refusals !== undefined;
const PORTS: Has = ({ hasPorts }) => hasPorts === true;
/** Who makes the connections to servers itself, and so lets clients wait for one. */
const QUEUE: Has = ({ queued }) => queued !== undefined;

/** A family without labels: one sample, or none where the mode has no such thing. */
function single(type: Family['type'], name: string, help: string, value: (from: LabelledRows) => number | undefined, isOf?: Has): Family {
  return perRow('lb4', [], (from) => [{ labels: {}, row: from }])(type, name, help, value, isOf);
}

export const FAMILIES: readonly Family[] = [
  ...traffic(frontend),
  frontend('gauge', 'status', 'Whether it takes connections: 0 stopped or draining, 1 up.', ({ open }) => Number(open)),
  frontend('gauge', 'silent', 'Whether its servers answer others and none of its connections.', ({ silent }) => Number(silent), PACKETS),
  frontend('counter', 'refused_total', 'Connections without a server, a place or the time.', ({ counters }) => counters.refused, QUEUE),
  refusal('counter', 'denied_total', 'Connections that a rule about its clients refused.', ({ refused }) => refused, RULES),
  refusal('counter', 'would_deny_total', 'Those that it would have refused (dry_run).', ({ wouldRefuse }) => wouldRefuse, RULES),
  frontend('counter', 'unlimited_total', 'Connections that its limits a source had no room for.', ({ unlimited }) => unlimited, RULES),

  ...traffic(backend),
  backend('gauge', 'status', 'Whether a server may be chosen: 0 down, 1 up.', ({ active, backups }) => Number(active + backups > 0)),
  backend('gauge', 'active_servers', 'Servers that may be chosen, without backups.', ({ active }) => active),
  backend('gauge', 'backup_servers', 'Backup servers that may be chosen.', ({ backups }) => backups),
  backend('gauge', 'current_queue', 'Connections that wait for a server.', ({ queued }) => queued, QUEUE),

  ...traffic(server),
  server('gauge', 'load', 'Connections now, those still opening included.', ({ counters }) => counters.load),
  server('gauge', 'status', 'State: 0 down, 1 up or not checked yet, 3 draining.', ({ view }) => SERVER_STATUS[view.state]),
  server('gauge', 'weight', 'Weight as it counts now.', ({ view }) => view.weight),
  server('gauge', 'damped', 'Whether it is kept out because it went up and down too often.', ({ view }) => Number(view.damped)),
  server('gauge', 'silent', 'Whether it passes its checks and answers no connection.', ({ view }) => Number(view.silent ?? false), PACKETS),
  server('gauge', 'dead_ends', "Frontends' addresses from which no way leads to it.", ({ view }) => view.deadEnds ?? 0, PACKETS),
  server('counter', 'check_failures_total', 'Health checks that failed.', ({ view }) => view.checkFailures),
  server('counter', 'checks_unmade_total', 'Health checks that could not be made from this host.', ({ view }) => view.checksUnmade),
  server('counter', 'check_up_down_total', 'Times that it went down after it had been up.', ({ view }) => view.checkChanges),
  server('counter', 'connection_errors_total', 'Connects that failed.', ({ counters }) => counters.connectFailures, QUEUE),
  server('counter', 'retry_warnings_total', 'Connections that went on to another server.', ({ counters }) => counters.retries, QUEUE),
  portPool('gauge', 'ports_in_use', 'Source ports in use, TIME_WAIT included.', ({ counters }) => counters.ports, PORTS),
  portPool('gauge', 'ports', 'Source ports that there are.', ({ counters }) => counters.portCapacity, PORTS),

  {
    name: 'lb4_packets_total',
    type: 'counter',
    help: 'Packets by how they ended.',
    labels: ['verdict'],
    isOf: PACKETS,
    each({ packets }, take) {
      for (const [verdict, value] of Object.entries(packets?.verdicts ?? {})) take({ verdict }, value);
    },
  },
  single('counter', 'ring_frames_received_total', 'Frames received.', ({ packets }) => packets?.received, PACKETS),
  single(
    'counter',
    'fast_path_packets_total',
    'Packets that the kernel has forwarded by itself.',
    ({ packets }) => packets?.fastPath?.forwarded,
    PACKETS,
  ),
  single(
    'counter',
    'fast_path_dropped_total',
    'First packets that the kernel has dropped by itself.',
    ({ packets }) => packets?.fastPath?.dropped,
    PACKETS,
  ),
  single('counter', 'ring_frames_dropped_total', 'Frames that found the ring full.', ({ packets }) => packets?.dropped, PACKETS),
  single('counter', 'transmit_failures_total', 'Frames that the kernel refused.', ({ packets }) => packets?.transmitFailed, PACKETS),
  single('gauge', 'flow_table_entries', 'Entries in use.', ({ packets }) => packets?.flows, PACKETS),
  single('gauge', 'flow_table_capacity', 'Entries at most.', ({ packets }) => packets?.flowCapacity, PACKETS),
  worker('counter', 'frames_received_total', 'Frames in its ring.', ({ received }) => received, PACKETS),
  worker('counter', 'frames_dropped_total', 'Frames that found its ring full.', ({ dropped }) => dropped, PACKETS),
  worker('gauge', 'flow_table_entries', 'Entries of its flow table in use.', ({ flows }) => flows, PACKETS),
  single('gauge', 'half_open_connections', 'Connections whose handshake is not complete.', ({ packets }) => packets?.halfOpen, PACKETS),
  single(
    'counter',
    'half_open_evicted_total',
    'Of these, those that made way for others.',
    ({ packets }) => packets?.halfOpenEvicted,
    PACKETS,
  ),
  single('gauge', 'syn_floods', 'Workers that take in a SYN only when it comes again.', ({ packets }) => packets?.synFloods, PACKETS),
  single('gauge', 'datagram_flows', 'Flows of UDP and pings.', ({ packets }) => packets?.datagrams, PACKETS),
  single(
    'counter',
    'datagram_flows_evicted_total',
    'Of these, those that made way for others.',
    ({ packets }) => packets?.datagramsEvicted,
    PACKETS,
  ),
  single(
    'counter',
    'affinity_evicted_total',
    'Clients who lost their server to others.',
    ({ packets }) => packets?.affinityEvicted,
    PACKETS,
  ),
  single(
    'counter',
    'stations_evicted_total',
    'Addresses seen between interfaces that made way for others.',
    ({ packets }) => packets?.stationsEvicted,
    PACKETS,
  ),
  single(
    'counter',
    'client_ways_moved_total',
    'Connections whose client came by another MAC address or interface.',
    ({ packets }) => packets?.waysMoved,
    PACKETS,
  ),
  single(
    'counter',
    'tunnel_too_big_total',
    'What routers said of wrapped packets that were too big for a link on the way to a server.',
    ({ packets }) => packets?.outerTooBig,
    PACKETS,
  ),

  {
    name: 'lb4_host_repairs_total',
    type: 'counter',
    help: 'Times that what lb4 had put on this host was missing and was put back.',
    labels: ['what'],
    each({ host }, take) {
      for (const { what, repairs } of host) take({ what }, repairs);
    },
  },
  {
    name: 'lb4_host_missing',
    type: 'gauge',
    help: 'Pieces of that which are missing now, or cannot be verified; of what="packet_rules", frontends that rules keep from the proxy.',
    labels: ['what'],
    each({ host }, take) {
      for (const { what, missing } of host) take({ what }, missing.length);
    },
  },

  {
    name: 'lb4_config_reloads_total',
    type: 'counter',
    help: 'Reloads of the configuration file.',
    labels: ['result'],
    each({ reload }, take) {
      take({ result: 'success' }, reload.succeeded);
      take({ result: 'failure' }, reload.failed);
    },
  },
  single('gauge', 'config_last_reload_successful', 'Whether the last reload succeeded.', ({ reload }) => Number(reload.lastSucceeded)),
  single(
    'gauge',
    'config_last_reload_success_timestamp_seconds',
    'When the configuration in use was taken into use.',
    ({ reload }) => reload.at,
  ),
  single(
    'gauge',
    'discovery_failing',
    'Names of servers that could not be looked up the last time.',
    ({ discoveryFailing }) => discoveryFailing,
  ),
  single('counter', 'log_lines_lost_total', 'Lines of the log that were lost.', ({ logLinesLost }) => logLinesLost),
  single('counter', 'connection_log_lines_total', 'Lines for the connection log.', ({ connectionLog }) => connectionLog?.lines ?? 0),
  single('counter', 'connection_log_lost_total', 'Those of them that were lost.', ({ connectionLog }) => connectionLog?.lost ?? 0),
  {
    name: 'lb4_connection_log_left_out_total',
    type: 'counter',
    help: 'Connections that were to have a line and have none, by why.',
    labels: ['reason'],
    each({ connectionLog }, take) {
      take({ reason: 'rate' }, connectionLog?.overRate ?? 0);
      take({ reason: 'room' }, connectionLog?.noRoom ?? 0);
    },
  },
  {
    name: 'lb4_build_info',
    type: 'gauge',
    help: 'Always 1; what runs is in the labels.',
    labels: ['version', 'mode'],
    each: ({ version, mode }, take) => take({ version, mode }, 1),
  },
];
