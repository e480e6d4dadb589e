/**
 * What the statistics port asks of whoever forwards, the same in every mode: a {@link Source} for the numbers, a {@link View}
 * for the names behind them. Numbers are whole, never negative and, unless said otherwise, only ever grow.
 */

/** What has been counted; tx is client → server, rx server → client, in bytes of payload. */
export interface Totals {
  /** Connections whose handshake was completed. */
  readonly total: number;
  readonly bytesTx: number;
  readonly bytesRx: number;
}

export const NOTHING: Totals = Object.freeze({ total: 0, bytesTx: 0, bytesRx: 0 });

/** Adds up what two have counted. */
export function addTotals(a: Totals, b: Totals): Totals {
  return { total: a.total + b.total, bytesTx: a.bytesTx + b.bytesTx, bytesRx: a.bytesRx + b.bytesRx };
}

export interface Counters extends Totals {
  /** Those open now; rises and falls. */
  readonly current: number;
}

export interface FrontendCounters extends Counters {
  /** Proxy mode: connections for which there was no server, no place in the queue, or no time. */
  readonly refused?: number | undefined;
}

export interface ServerCounters extends Counters {
  /** Connections now, those still opening included: what `maxconn` limits; rises and falls. */
  readonly load: number;
  /** Proxy mode: connects that failed or timed out. */
  readonly connectFailures?: number | undefined;
  /** Proxy mode: connections that went on to another server after such a failure. */
  readonly retries?: number | undefined;
  /** Passthrough: source ports that connections to the server hold, TIME_WAIT included; rises and falls. */
  readonly ports?: number | undefined;
  /** Passthrough: source ports that there are. */
  readonly portCapacity?: number | undefined;
}

/** Of one packet worker, or of all together. */
export interface WorkerCounters {
  readonly received: number;
  /** Frames that found the receive ring full. */
  readonly dropped: number;
  /** Frames that the kernel did not take. */
  readonly transmitFailed: number;
  /** Entries of the flow table, two a connection in passthrough; rises and falls. */
  readonly flows: number;
  /** Connections of which no side has shown yet that it hears the other; rises and falls. */
  readonly halfOpen: number;
  /** Those that had to make way for others. */
  readonly halfOpenEvicted: number;
  /** Flows of UDP and pings; rises and falls. */
  readonly datagrams: number;
  /** Those that had to make way for others. */
  readonly datagramsEvicted: number;
  /** Clients who had to make way for others before their `affinity` was over. */
  readonly affinityEvicted: number;
  /** Between interfaces: addresses that had to make way for others before they were old. */
  readonly stationsEvicted: number;
  /** Connections whose answers took another MAC address or interface, as their clients had. */
  readonly waysMoved: number;
  readonly synFloods: number;
}

/** The packet modes only. */
export interface PacketCounters extends WorkerCounters {
  /** How many packets ended how. */
  readonly verdicts: Readonly<Record<string, number>>;
  readonly flowCapacity: number;
  /** Packets around clients' packets that were too big for a link on the way to a server, as routers say. */
  readonly outerTooBig: number;
  /** In order. */
  readonly workers: readonly WorkerCounters[];
  /** Where the kernel forwards established connections, and how many packets it has; undefined: nowhere. */
  readonly fastPath?: FastPathCounters | undefined;
}

export interface FastPathCounters {
  /** Names of interfaces, by hook. */
  readonly tc: readonly string[];
  readonly xdp: readonly string[];
  readonly forwarded: number;
  /** First packets that it has dropped by itself; they are among the verdicts, and among what was received. */
  readonly dropped: number;
}

export interface Source {
  /** Its name, for people and labels: what it can tell says the rest. */
  readonly mode: string;
  /** Connections to servers leave from ports of lb4's own. */
  readonly hasPorts?: boolean;
  frontend(index: number): FrontendCounters;
  /** What a frontend's rules about its clients have refused, in the columns that {@link RuleView} names. */
  refusals?(index: number): readonly number[];
  server(index: number): ServerCounters;
  /** Proxy mode: connections of a backend that wait for a server; rises and falls. */
  queued?(backend: string): number;
  /** Missing in proxy mode. */
  packets?(): PacketCounters;
}

/** `unknown` until the first check has spoken; `drain` takes no new connections, by weight 0 or because it left the file. */
export type ServerState = 'unknown' | 'up' | 'down' | 'drain';

/** A rule about a frontend's clients. */
export interface RuleView {
  /** As the file has it: `allow`, `deny`, `deny @/etc/lb4/block`, `source_rate`, `source_maxconn`. */
  readonly rule: string;
  /** Where the {@link Source} counts what it refused, and what it would have (`dry_run`). */
  readonly column: number;
  readonly dryColumn: number;
}

export interface FrontendView {
  /** As the file has it: one of several protocols has several with one name. */
  readonly name: string;
  /** "tcp" */
  readonly protocol: string;
  /** Where clients connect, "IP:PORT". */
  readonly address?: string | undefined;
  /** The name of its backend. */
  readonly backend?: string | undefined;
  /** Its number in the {@link Source}. */
  readonly index: number;
  /** It left the file; its last connections go on. */
  readonly draining?: boolean | undefined;
  /** The packet modes: its servers answer others, yet none of its connections. */
  readonly silent?: boolean | undefined;
  readonly rules?: readonly RuleView[] | undefined;
  /** Where the {@link Source} counts new connections that its limits a source had no room for; undefined: it has none. */
  readonly unlimitedColumn?: number | undefined;
}

export interface ServerView {
  readonly name: string;
  /** "IP:PORT". */
  readonly address: string;
  /** Its number in the {@link Source}. */
  readonly index: number;
  readonly state: ServerState;
  /** As it counts now: a fraction of the file's during a slow start. */
  readonly weight: number;
  readonly fileWeight: number;
  /** What operators have set at run time; undefined: nothing. */
  readonly set?: { readonly state?: 'drain' | 'down' | undefined; readonly weight?: number | undefined } | undefined;
  readonly backup: boolean;
  /** It went up and down too often and is kept out for a while; its state is `down` then. */
  readonly damped: boolean;
  /** The packet modes: it passes its health checks, yet answers no connection. */
  readonly silent?: boolean | undefined;
  /** The packet modes: frontends' addresses from which no way leads to it. */
  readonly deadEnds?: number | undefined;
  /** Health checks that failed. */
  readonly checkFailures: number;
  /** Health checks that could not be made from this host; they say nothing about the server. */
  readonly checksUnmade: number;
  /** How often it went down after it had been up. */
  readonly checkChanges: number;
  /** How the last check ended, for people: "connection refused". */
  readonly lastCheck: string;
  /** Undefined: there was none, or another lb4 has made it. */
  readonly lastResult?: 'pass' | 'fail' | 'unknown' | undefined;
  /** In seconds, since it ended; undefined as before. */
  readonly lastCheckAge?: number | undefined;
}

export interface BackendView {
  /** As with frontends. */
  readonly name: string;
  readonly protocol: string;
  /** How a server is chosen. */
  readonly balance?: string | undefined;
  readonly servers: readonly ServerView[];
  /** What servers that are gone had counted: the backend's totals do not shrink when one goes. */
  readonly retired: Totals;
}

export interface ReloadView {
  readonly succeeded: number;
  readonly failed: number;
  /** True before the first reload, too. */
  readonly lastSucceeded: boolean;
  readonly lastError: string | undefined;
  /** When the configuration in use was taken into use, in seconds since 1970. */
  readonly at: number;
}

/** What lb4 has put on this host and others can take away, or what others put in its way: one kind of thing. */
export interface HostView {
  /** For metrics: "rules". */
  readonly what: string;
  /** For people: "firewall rules". */
  readonly name: string;
  /** lb4 serves all the same while it is missing. */
  readonly serves: boolean;
  /** What is missing now; empty while all stands. */
  readonly missing: readonly string[];
  /** Why it could not be verified or put back, where so. */
  readonly reason: string | undefined;
  /** How often it was put back. */
  readonly repairs: number;
}

/** Of a list that may have thousands. */
export function summarize([first = 'nothing', ...more]: readonly string[]): string {
  return more.length === 0 ? first : `${first}, and ${more.length} more`;
}

/** What became of connections that were to have a line in the connection log. */
export interface ConnectionLogView {
  /** Lines handed over to where it goes, and those of them that were lost. */
  readonly lines: number;
  readonly lost: number;
  /** Connections without a line: beyond the rate, or without room on the way. */
  readonly overRate: number;
  readonly noRoom: number;
}

/** What the configuration says now, and what the health checks have found. */
export interface View {
  readonly frontends: readonly FrontendView[];
  readonly backends: readonly BackendView[];
  /** What frontends that are gone had counted. */
  readonly retired: Totals;
  readonly reload: ReloadView;
  readonly host: readonly HostView[];
  /** Lines of the log that could not be written, or found nobody who read. */
  readonly logLinesLost: number;
  /** Undefined: there was no connection log yet. */
  readonly connectionLog?: ConnectionLogView | undefined;
  /** Of the names, services and programs that servers are found by: those whose last look-up failed. */
  readonly discoveryFailing: number;
  /** No new connections are taken any more: the process ends when the last one has. */
  readonly stopping: boolean;
}
