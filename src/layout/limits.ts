/** How much of everything there may be at a time: what a file may hold, and how much room the data paths make for it. */

/** A file's: at most so many frontends, so many backends, so many servers over all backends, so many source addresses a backend, so many interfaces of clients, and so many addresses of each. */
export const LIMITS = { frontends: 1024, backends: 4096, servers: 4096, sources: 64, ports: 32, clients: 256 } as const;

/** A data path's: twice a file's, since others come while those that left it still drain. Indexes are below, and 16 bits in a connection's record. */
export const ROOM = { frontends: 2 * LIMITS.frontends, backends: 2 * LIMITS.backends, servers: 2 * LIMITS.servers } as const;

/** Why there is no room. Indexes are given out from 0: one too large means too many, and the file alone cannot hold so many. */
export function noRoom(what: string, limit: number): string {
  return `there is room for ${limit} ${what}s, those that still drain included: wait for the drain, or lower drain_timeout`;
}

/** Connections at a time, whatever counts or limits them: records are numbered by 24 bits (engine/recovery.ts), 4.1 GB. */
export const MOST_CONNECTIONS = 16_777_216;

/**
 * Bytes of memory that each of `connection_tracker_capacity` takes, with everything that grows with connections (test/unit/room.test.ts), and a worker beside
 * that: 4.2 MB of it are what its SYN guard remembers SYNs by, which a flood fills, in a map of the kernel's or in memory of its own.
 */
export const CONNECTION_BYTES = 256;
export const WORKER_BYTES = 10_500_000;

/** Threads at a time that forward packets, or that carry connections. */
export const MOST_WORKERS = 64;
