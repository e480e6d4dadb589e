/** How much of everything there may be at a time: what a file may hold, and how much room the data paths make for it. */

/** A file's: at most so many frontends, so many backends, so many servers over all backends, and so many source addresses a backend. */
export const LIMITS = { frontends: 1024, backends: 4096, servers: 4096, sources: 64 } as const;

/** A data path's: twice a file's, since others come while those that left it still drain. Indexes are below, and 16 bits in a connection's record. */
export const ROOM = { frontends: 2 * LIMITS.frontends, backends: 2 * LIMITS.backends, servers: 2 * LIMITS.servers } as const;

/** Connections at a time, whatever counts or limits them: records are numbered by 24 bits (engine/recovery.ts), 4.1 GB. */
export const MOST_CONNECTIONS = 16_777_216;
