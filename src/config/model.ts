/** The configuration as the rest of the program sees it: resolved, frozen, times in milliseconds. */
import type { AccessList } from '../access/prefix-list.ts';
import type { GlbKeys, GlbState, SchedulerName } from '../balance/index.ts';
import type { Address, Network } from './address.ts';

export type { Address } from './address.ts';

/** How a client's packet comes to its server in DSR: with another address, with another MAC address alone, or inside of another packet. */
export const DSR = ['nat', 'l2', 'gue', 'ipip'] as const;
export type Dsr = (typeof DSR)[number];
/** What full NAT changes: both addresses, or the destination alone, so that servers see their clients. */
export const NAT = ['full', 'destination'] as const;
export type Nat = (typeof NAT)[number];
/** Versions of the PROXY protocol. */
export const SEND_PROXY = ['v1', 'v2'] as const;
export type SendProxy = (typeof SEND_PROXY)[number];
/** What moves packets. */
export const IO = ['ring', 'pcap'] as const;
export type Io = (typeof IO)[number];

/** Where packets of established connections are forwarded in the kernel, if anywhere. */
export const FAST_PATHS = ['auto', 'tc', 'xdp', 'off'] as const;
export type FastPath = (typeof FAST_PATHS)[number];
export const HEALTH_CHECK = ['tcp', 'http', 'exec', 'udp', 'gue', 'ipip', 'none'] as const;
export type HealthCheckType = (typeof HEALTH_CHECK)[number];
/** Those that look at a server. */
export const LOOKS = HEALTH_CHECK.filter((type) => type !== 'none');

/** Where the connection log goes, and what its lines look like. */
export const CONNECTION_LOGS = ['file', 'journal', 'syslog'] as const;
export const LOG_FORMATS = ['text', 'json'] as const;

export interface Config {
  /** The file it came from, as given. */
  readonly file: string;
  /** Further ones that it is made of (`[glb]`): absolute paths. */
  readonly files?: readonly string[];
  /** At least one, in the file's order; with --fan-out those of [fan_out]. */
  readonly frontends: readonly Frontend[];
  readonly backends: readonly Backend[];
  /** Undefined: no statistics server. */
  readonly stats: { readonly listen: Address } | undefined;
  readonly control: Control;
  /** Undefined: there is none. */
  readonly connectionLog?: ConnectionLog | undefined;
  readonly passthrough: Passthrough;
  readonly proxy: Proxy;
  /** The interfaces that lb4 stands between; undefined: the file has none. */
  readonly inline: Inline | undefined;
  /** Ports that the kernel spreads over processes of this host; undefined: the file has none. */
  readonly fanOut?: readonly FanOut[];
  /** Who is asked for names, as `192.0.2.53:53`; undefined: whom this host asks. */
  readonly nameservers?: readonly string[] | undefined;
  /** So long a server stays that answers for a name or service do not have any more. */
  readonly holdMs?: number | undefined;
}

/** A line for each connection that has ended. */
export interface ConnectionLog {
  readonly target:
    | { readonly to: 'file'; readonly path: string }
    | { readonly to: 'journal' }
    | { readonly to: 'syslog'; readonly path: string }
    | { readonly to: 'syslog'; readonly address: Address };
  readonly format: (typeof LOG_FORMATS)[number];
  /** What part of the connections has a line, above 0 and at most 1. */
  readonly sample: number;
  /** Lines a second. */
  readonly rate: number;
  /** Those that were never established, too. */
  readonly attempts: boolean;
}

/** Where a running lb4 takes orders. */
export interface Control {
  /** Undefined: at no socket. */
  readonly socket:
    | {
        /** Undefined: the default of whoever runs lb4. */
        readonly path: string | undefined;
        /** A name of /etc/group, or a number. */
        readonly group: string | undefined;
        /** As of chmod(2). */
        readonly mode: number;
      }
    | undefined;
  /** Undefined: at no port. */
  readonly tcp: (Secret & { readonly listen: Address }) | undefined;
  /** From the dashboard; undefined: it is read-only. */
  readonly dashboard: Secret | undefined;
}

/** What who gives orders must say; one of the two is there, and `token` counts where both are. */
export interface Secret {
  readonly token: string | undefined;
  readonly tokenFile: string | undefined;
}

export interface Inline {
  /** On the side of the servers. */
  readonly backend: string;
  /** On the side of the clients, each with those that the file says are behind it: IPv4 prefixes. */
  readonly frontends: readonly {
    readonly name: string;
    readonly clients: readonly { readonly address: string; readonly bits: number }[];
  }[];
}

/** Who answers pings of an address that a frontend listens on: lb4 while a server is up, or the kernel. */
export const ICMP_ECHO = ['balancer', 'kernel'] as const;
export type IcmpEcho = (typeof ICMP_ECHO)[number];

/** What becomes of a first packet that a frontend's rules keep out. */
export const ACCESS_ACTIONS = ['drop', 'reset'] as const;

/** A frontend of the file, of one of its protocols (schema/services.ts). */
export interface Frontend {
  /** Unlike that of any other: `web`; of another protocol than TCP `web/udp`. */
  readonly name: string;
  /** As the file has it; undefined: as `name`. */
  readonly label?: string;
  readonly listen: Address;
  /** The very object that stands in `Config.backends`. */
  readonly backend: Backend;
  /** Connections at a time; 0: no limit. */
  readonly maxconn: number;
  /** Proxy mode: clients begin with a PROXY protocol header, v1 or v2. */
  readonly acceptProxy: boolean;
  /** Proxy mode: the client's silence that ends a connection. */
  readonly clientTimeoutMs: number;
  /** UDP in the packet modes: a server is chosen for each datagram. */
  readonly udpPerPacket?: boolean;
  /** Undefined: the kernel. */
  readonly icmpEcho?: IcmpEcho;
  /** Who may connect, and who may not; undefined: all, and nobody. */
  readonly allow?: AccessList;
  readonly deny?: AccessList;
  /** New connections a second, and connections at a time, of one source; undefined: no limit. */
  readonly sourceRate?: number;
  readonly sourceMaxconn?: number;
  /** Bits of an IPv4 address that make a source; undefined: 32. */
  readonly sourcePrefix?: number;
  /** Undefined: `drop`. */
  readonly denyAction?: (typeof ACCESS_ACTIONS)[number];
  /** Whom these rules keep out is counted, and let in. */
  readonly dryRun?: boolean;
}

/** A protocol above IP, as firewall tools spell it, and its number in the IP header. */
export interface TransportProtocol {
  readonly name: string;
  readonly number: number;
}

/** A backend of the file, of one of the protocols of its frontends (schema/services.ts). */
export interface Backend {
  /** As a frontend's. */
  readonly name: string;
  /** As the file has it; undefined: as `name`. */
  readonly label?: string;
  /** Of the frontends and of the servers. */
  readonly protocol: TransportProtocol;
  /** Undefined: the mode's default. */
  readonly balance: SchedulerName | undefined;
  /** With `glb`. */
  readonly glb?: GlbKeys;
  /** With `glb`: the table goes by health as it was for so long at least after a change; 0: not. */
  readonly healthHoldMs?: number;
  /** Who changes addresses in DSR: `nat` the servers, on their way out; `l2`, `gue` and `ipip` nobody. */
  readonly dsr: Dsr;
  /** With `gue` and `ipip`. */
  readonly tunnel?: Tunnel;
  /** Passthrough; undefined: `full`. */
  readonly nat?: Nat | undefined;
  readonly healthCheck: HealthCheck;
  readonly servers: readonly Server[];
  /** Those that are found while lb4 runs (src/discovery); undefined: none. */
  readonly templates?: readonly ServerTemplate[];
  /** Passthrough: IPv4 addresses of this host that servers see in place of the frontends'; may be empty (sources.ts). */
  readonly sourceAddrs: readonly string[];
  /** Proxy mode: the PROXY protocol version that servers are greeted with; undefined: none. */
  readonly sendProxy: SendProxy | undefined;
  readonly connectTimeoutMs: number;
  /** Proxy mode: the server's silence that ends a connection. */
  readonly serverTimeoutMs: number;
  /** Proxy mode: other servers tried after a failed connect. */
  readonly retries: number;
  /** Proxy mode: connections that may wait while all servers are at their `maxconn`. */
  readonly maxQueue: number;
  readonly queueTimeoutMs: number;
  /** A server that comes back grows to its full weight in this time; 0: at once. */
  readonly slowStartMs: number;
  /** Connections of a server or frontend that left the file may go on for this long. */
  readonly drainTimeoutMs: number;
  /** With `nat` destination: servers see clients of one network under the addresses of another. */
  readonly srcIpRewrite?: { readonly clients: Network; readonly as: Network };
  /** UDP: the flows of a server that is down end at once, and begin anew with another one. Undefined: they do. */
  readonly udpFailover?: boolean;
  /** A client's address stays with its server for so long after its last connection; undefined or 0: only connections do. */
  readonly affinityMs?: number;
  /** Over all protocols of the backend. */
  readonly affinityAcross?: boolean;
}

/** What packets to servers are wrapped in. */
export interface Tunnel {
  /** UDP port of the servers; 0: a protocol without ports. */
  readonly port: number;
  /** IPv4 address of this host that it comes from; undefined: the one that the kernel would send from. */
  readonly source: string | undefined;
}

export interface HealthCheck {
  /** The first kind. */
  readonly type: HealthCheckType;
  /** Further kinds, in the file's order: a server is well if it passes all. Undefined: none. */
  readonly also?: readonly HealthCheckType[];
  readonly http: {
    /** Request target, beginning with a slash. */
    readonly path: string;
    /** Inclusive ranges of good status codes. */
    readonly status: readonly (readonly [first: number, last: number])[];
    /** The Host header; undefined: the server's address and port. */
    readonly host: string | undefined;
  };
  /** Program and arguments of an `exec` check; empty for the others. */
  readonly command: readonly string[];
  /** Of a `udp` check, as the file spells them (payload.ts). */
  readonly udp: {
    readonly send: string;
    /** Undefined: any answer will do, and none as well. */
    readonly expect: string | undefined;
  };
  /** Undefined: each server's own. */
  readonly port: number | undefined;
  /** Intervals vary by this share either way, 0–0.5. */
  readonly jitter: number;
  /** Start to start, above 0. */
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Successes in a row that bring a failed server back. */
  readonly rise: number;
  /** Failures in a row that take a server out. */
  readonly fall: number;
}

/** All kinds of check that a server must pass. */
export function kindsOf({ type, also = [] }: Pick<HealthCheck, 'type' | 'also'>): readonly HealthCheckType[] {
  return [type, ...also];
}

export interface Server {
  readonly name: string;
  readonly addr: Address;
  /** 0–65535; 0 takes no new connections. */
  readonly weight: number;
  /** Connections at a time; 0: no limit. */
  readonly maxconn: number;
  /** Used only while no other server of the backend is up. */
  readonly backup: boolean;
  /** With `glb`; undefined: active. */
  readonly state?: GlbState;
}

/** Servers that are found while lb4 runs: as many as there are answers, each with these keys. */
export interface ServerTemplate {
  /** Of the table in the file. */
  readonly name: string;
  readonly finder: Finder;
  /** Of `srv` and `exec`: times what the answer gives to each. */
  readonly weight: number;
  readonly maxconn: number;
  readonly backup: boolean;
}

/** Where servers are found. */
export type Finder =
  /** All addresses of a name. */
  | { readonly kind: 'name'; readonly host: string; readonly port: number }
  /** A service's SRV records (RFC 2782), and the addresses of their targets. */
  | { readonly kind: 'srv'; readonly name: string }
  /** What a program prints. */
  | { readonly kind: 'exec'; readonly command: readonly string[]; readonly intervalMs: number };

/** How the kernel chooses a process. */
export const FAN_OUT_BALANCE = ['roundrobin', 'random', 'source'] as const;
export type FanOutBalance = (typeof FAN_OUT_BALANCE)[number];

/** A port that the kernel alone spreads over processes of this host. */
export interface FanOut {
  readonly name: string;
  /** The address that clients call, or the any-address of each family. */
  readonly listen: readonly Address[];
  /** In the file's order. */
  readonly ports: readonly { readonly port: number; readonly weight: number }[];
  readonly balance: FanOutBalance;
  /** For programs of this host as well. */
  readonly local: boolean;
  readonly protocol: TransportProtocol;
}

export interface Proxy {
  /** Threads; 0: one for each processor. */
  readonly workers: number;
  /** Running connections may go on for this long after a stop was asked for. */
  readonly gracePeriodMs: number;
}

/** The packet modes, DSR too. */
export interface Passthrough {
  /** Connections of all workers together, at least one for each; the flow tables round up as they need. */
  readonly connectionTrackerCapacity: number;
  /** Threads, 1–64: what the file leaves to lb4 is settled. */
  readonly workers: number;
  /** The processors that they are pinned to, in turn; undefined: to none. */
  readonly cpus: readonly number[] | undefined;
  readonly statsUpdateMs: number;
  /** Of each worker; a power of two. */
  readonly ringSlots: number;
  /** Microseconds, 0–10,000. */
  readonly busyPollUs: number;
  readonly io: Io;
  readonly fastPath: FastPath;
  /** RST and ICMP errors that lb4 makes itself; 0: none. */
  readonly resetsPerSecond: number;
  /** Those of them to one address. */
  readonly resetsPerSource: number;
  /** From so many half-open connections on SYNs may be a flood; 0: never. */
  readonly synFloodFrom: number;
  /** Sets of nft's, "inet filter blocked", whose addresses no frontend serves. */
  readonly respectFirewall?: readonly string[];
  readonly timeouts: Timeouts;
}

export interface Timeouts {
  readonly synMs: number;
  readonly establishedMs: number;
  readonly finMs: number;
  readonly timeWaitMs: number;
  readonly closedMs: number;
  readonly udpMs: number;
  readonly udpStreamMs: number;
  readonly icmpMs: number;
}
