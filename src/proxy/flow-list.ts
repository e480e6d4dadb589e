/** Who is connected to what, by worker: what the main thread asks for, and is told. */
import { BlockList } from 'node:net';

/** Which connections are meant: those that fit all that is given. Plain data, which crosses threads. */
export interface ProxyQuery {
  /** Indexes. */
  readonly frontends?: readonly number[] | undefined;
  readonly servers?: readonly number[] | undefined;
  readonly client?: ClientRange | undefined;
}

/** The addresses that begin with the first `bits` bits of `ip`. */
export interface ClientRange {
  readonly ip: string;
  readonly bits: number;
  readonly port: number | undefined;
}

export interface ProxyFlow {
  /** "IP:PORT" */
  readonly client: string;
  readonly to: string;
  /** Indexes; of a server none yet: -1. */
  readonly frontend: number;
  readonly server: number;
  /** What the server sees, and where it is; undefined: it is not connected yet. */
  readonly via: string | undefined;
  readonly address: string | undefined;
  readonly state: 'waiting' | 'connecting' | 'established';
  readonly bytesTx: number;
  readonly bytesRx: number;
  readonly idleMs: number;
}

/** Of a connection, what tells whether it is meant. */
interface Meant {
  readonly frontend: { readonly plan: { readonly index: number } };
  readonly server: { readonly index: number } | undefined;
  readonly remote: { readonly source: string; readonly sourcePort: number } | undefined;
}

/** Tells whether a connection is meant. */
export function matcherOf({ frontends, servers, client }: ProxyQuery): (connection: Meant) => boolean {
  const [inFrontends, inServers] = [frontends, servers].map((list) => list && new Set(list));
  const isClient = client === undefined ? () => true : clientMatcher(client);
  return (connection) =>
    inFrontends?.has(connection.frontend.plan.index) !== false &&
    inServers?.has(connection.server?.index ?? -1) !== false &&
    isClient(connection.remote);
}

function clientMatcher({ ip, bits, port }: ClientRange): (remote: Meant['remote']) => boolean {
  const list = new BlockList();
  list.addSubnet(ip, bits, familyOf(ip));
  return (remote) =>
    remote !== undefined && (port === undefined || port === remote.sourcePort) && list.check(remote.source, familyOf(remote.source));
}

function familyOf(ip: string): 'ipv4' | 'ipv6' {
  return ip.includes(':') ? 'ipv6' : 'ipv4';
}
