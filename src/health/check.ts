import { joinPort } from '../config/address.ts';
import type { SendProxy } from '../config/model.ts';

/** How one check ended. `unknown` says nothing about the server: the check could not be made from here. */
export interface CheckResult {
  outcome: 'pass' | 'fail' | 'unknown';
  /** For people: "connected in 0.3 ms", "connection refused". */
  reason: string;
  /** Nothing was heard of the server, and what it passes by, if it does, is that nothing was heard against it. */
  isSilent?: boolean;
  /** "Port unreachable" came so many times. */
  refusals?: number;
  /** Its host is not on the link that it should be on. */
  isGone?: boolean;
}

/** One way to look at a server, each in a file of its own: tcp.ts, http.ts, exec.ts, udp.ts, tunnel.ts. */
export interface Check {
  /** Never rejects; resolves within the check's own timeout, and soon after `signal` is aborted. */
  run(signal: AbortSignal): Promise<CheckResult>;
}

export interface TcpSettings {
  readonly type: 'tcp';
}

export interface HttpSettings {
  readonly type: 'http';
  /** Request target, beginning with a slash. */
  readonly path: string;
  /** Inclusive ranges of good status codes. */
  readonly status: readonly (readonly [first: number, last: number])[];
  /** The Host header; undefined: the server's address and port. */
  readonly host: string | undefined;
  /** The server expects a PROXY protocol header of that version before the request. */
  readonly sendProxy?: SendProxy | undefined;
}

export interface ExecSettings {
  readonly type: 'exec';
  /** Program and arguments; never seen by a shell. */
  readonly command: readonly string[];
  /** Added to PATH, LB4_SERVER_ADDR and LB4_SERVER_PORT, which the check sets itself; nothing else is passed on. */
  readonly env: Readonly<Record<string, string>>;
}

export interface UdpSettings {
  readonly type: 'udp';
  /** The datagram's payload; may be empty. */
  readonly send: Uint8Array;
  /** Bytes that an answer has; undefined: any answer will do, and none as well. */
  readonly expect: Buffer | undefined;
}

export interface TunnelSettings {
  readonly type: 'gue' | 'ipip';
  /** UDP, where servers unwrap packets; 0: IP in IP. */
  readonly port: number;
  /** What wrapped packets come from; undefined: the kernel's choice. */
  readonly source: string | undefined;
}

export type CheckSettings = TcpSettings | HttpSettings | ExecSettings | UdpSettings | TunnelSettings;

/** One server as one frontend reaches it. */
export interface Target {
  /** The caller's name for it, unique in a set. */
  id: string;
  /** IPv4 or IPv6, without brackets. */
  address: string;
  /** The one to look at. */
  port: number;
  /** The one that it serves at; left out: the same. */
  serverPort?: number | undefined;
  /** Where checks by TCP, HTTP and UDP go, in words, when that is not where it serves: "at port 8080". Failures name it. */
  asked?: string | undefined;
  /** The frontend's listen address; connections then leave from it and a port of CHECK_PORTS. Else the kernel picks both. */
  sourceAddress?: string | undefined;
  /** Listen addresses of further frontends of the server, in the order in which they are taken where the ones before have left this host. */
  otherSources?: readonly string[] | undefined;
  /** Default: a TCP handshake. */
  check?: CheckSettings | undefined;
  /** Further ones, each of another kind: the server must pass all (all.ts). */
  also?: readonly CheckSettings[] | undefined;
  /** From the start of one check to the start of the next, in ms, give or take `jitter`. Above 0. */
  intervalMs: number;
  /** Intervals vary by this share either way, 0–0.5, lest all servers be checked at one moment for ever. */
  jitter: number;
  /** One check fails after this many ms. */
  timeoutMs: number;
  /** So many passes in a row bring a server up. */
  rise: number;
  /** So many failures in a row take it down. */
  fall: number;
}

/** `192.0.2.1:80`, `[2001:db8::1]:80` */
export function endpointOf({ address, port }: Target): string {
  return joinPort(address, port);
}
