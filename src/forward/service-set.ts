/** What is balanced over what, as the main thread tells it. */
import type { Access } from '../access/guard.ts';
import type { Choice } from '../balance/index.ts';
import type { ModeName } from './modes.ts';

/** Plain data: it crosses threads. Addresses in native order, ports in host order, protocols by their number in the IP header. */
export interface ServiceSet {
  /** Of two on one address, port and protocol, the one that does not drain gets the new connections. */
  readonly frontends: readonly {
    /** Below MAX_FRONTENDS; another address, port or protocol under the same index counts as another frontend. */
    readonly index: number;
    readonly address: number;
    readonly port: number;
    /** That of its backend's servers. */
    readonly protocol: number;
    readonly backend: string;
    /** Connections at a time; 0: no limit. */
    readonly maxconn: number;
    /** Live connections go on, no new ones are taken. */
    readonly draining: boolean;
    /** Each datagram goes to a server of its own choice, and its answer alone comes back by it. */
    readonly perPacket?: boolean;
    /** Pings of its address are answered here while one of its servers is up. */
    readonly echo?: boolean;
    /** Who may connect, and how often; left out: all, and as they like. */
    readonly access?: Access | undefined;
  }[];
  readonly backends: readonly {
    readonly name: string;
    readonly mode: ModeName;
    /** Among some of `servers`, named by their indexes. */
    readonly choice: Choice;
    /** Those that drain or are down, too: the flows of a server that is not here are removed. */
    readonly servers: readonly ServerEntry[];
    /** Full NAT: this host's addresses that new connections leave from; empty or left out: from the one that its client called. */
    readonly sources?: readonly number[];
    /** Of a mode that wraps packets: UDP port of the servers (0: the protocol has none), the source, native order (0: the kernel's choice), and further hops at most. */
    readonly tunnel?: { readonly port: number; readonly source: number; readonly hops?: number };
    /** A client stays with its server for so many milliseconds after its last connection. */
    readonly affinity?: { readonly ms: number };
    /** Client addresses under `mask` that are `from` are shown to servers with `to` in its place. Native order. */
    readonly prefix?: { readonly mask: number; readonly from: number; readonly to: number };
  }[];
  /** Other addresses of this host, as far as they are known: what servers send there is for its kernel. */
  readonly locals?: readonly number[];
  /** Addresses that were among a backend's `sources`: connections that left from them go on. */
  readonly formerSources?: readonly number[];
}

export interface ServerEntry {
  /** Below MAX_SERVERS; another address, port or protocol under the same index counts as another server. */
  readonly index: number;
  readonly address: number;
  readonly port: number;
  readonly protocol: number;
  /** It is down, and others are up: its datagrams go to those at once. */
  readonly lost?: boolean;
  /** With affinity over protocols: the index under which those of the other protocols know it. */
  readonly peer?: number;
}
