/** A mode is a few facts and a pure function from a new connection to its rewrite; nobody asks for its name. */
import type { Tunnel } from '../packet/tunnel.ts';

/** A connection that is about to be opened: its 5-tuple as the client sent it, and where it shall go. */
export interface Opening {
  source: number;
  destination: number;
  ports: number;
  /** The chosen server: address in native order, port in host order. */
  serverAddress: number;
  serverPort: number;
  /**
   * Where replies pass lb4: what the server sees (native order), and its port (host order). An address of ours and a port of a pool, or those
   * of the client, if need be others in their place (prefix-map.ts, clash.ts).
   */
  address: number;
  port: number;
}

/** The 5-tuple of the client's packets as they leave. The replies' rewrite is its mirror image. */
export interface Rewrite {
  source: number;
  destination: number;
  ports: number;
}

export interface Mode {
  /** How many directions pass lb4: with 1, the server answers the client itself. */
  readonly directions: 1 | 2;
  /** Whom the server sees: our address with a port of a pool, or the client. */
  readonly source: 'pool' | 'client';
  /** Where servers send their answers: to an address of ours, to the client through this host, or past it. */
  readonly repliesTo: 'us' | 'client' | 'nobody';
  /** The server must be on the link itself, and the kernel cannot help: the VIP is local to it. */
  readonly onLink: boolean;
  /** What a client's packet is inside of on its way to the server; undefined: nothing. */
  readonly tunnel?: Tunnel;
  /** Fills `rewrite`. Allocates nothing. */
  readonly rewrite: (opening: Opening, rewrite: Rewrite) => void;
}
