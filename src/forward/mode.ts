/** A mode turns a new connection into one or two rewrites, and is no more than that. */
import type { PortPool } from '../flow/port-pool.ts';

/** A connection that is about to be opened: its 5-tuple as the client sent it, and where it shall go. */
export interface Opening {
  source: number;
  destination: number;
  ports: number;
  /** The chosen server: address in native order, port in host order. */
  serverAddress: number;
  serverPort: number;
  /** The ports from `destination` (our source address) to this server; undefined where the mode needs none. */
  pool: PortPool | undefined;
}

/** The 5-tuple of the client's packets as they leave. The replies' rewrite is its mirror image. */
export interface Rewrite {
  source: number;
  destination: number;
  ports: number;
}

/** How many directions pass lb4, or that there was no port for the connection. */
export type Directions = 0 | 1 | 2;

/** Fills `rewrite` and returns the number of directions that lb4 carries; 0 when no port was free. Allocates nothing. */
export type Mode = (opening: Opening, rewrite: Rewrite) => Directions;
