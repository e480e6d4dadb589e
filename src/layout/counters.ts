/**
 * Counters in shared memory, each worker's its own, read by anyone: float64, exact to 2^53. A row of eight, one cache
 * line, for each frontend, then for each server; tx is client → server, rx is server → client, in bytes of payload.
 */
import { ROOM } from './limits.ts';

/** Room for that many of each; rows here. */
export const MAX_FRONTENDS = ROOM.frontends;
export const MAX_SERVERS = ROOM.servers;

/** Counters of verdicts: room for more than there are (forward/verdict.ts). */
export const VERDICTS = 64;

// Rows of the gauges.
export const GAUGES = 16;
export const RECEIVED = 0;
/** Frames lost because the receive ring was full. */
export const DROPPED = 1;
/** Frames the kernel refused to send. */
export const TRANSMIT_FAILED = 2;
/** Live entries of the flow table. */
export const FLOWS = 3;
/** Connections of which no side has shown yet that it hears the other. */
export const HALF_OPEN = 4;
/** Those that had to make way for others. */
export const HALF_OPEN_EVICTED = 5;
/** Flows of datagrams, and those that had to make way for others. */
export const DATAGRAM_FLOWS = 6;
export const DATAGRAMS_EVICTED = 7;
/** Clients who had to make way for others before their time with a server was over (layout/affinity.ts). */
export const AFFINITY_EVICTED = 8;
/** Between interfaces: MAC and IPv4 addresses that had to make way for others before they were old (forward/stations.ts). */
export const STATIONS_EVICTED = 9;
/** Connections whose answers took another MAC address or interface, as their clients had (forward/way-back.ts). */
export const WAYS_MOVED = 10;
/** 1 while SYNs flood, and must come twice (forward/syn-guard.ts). */
export const SYN_FLOODS = 11;

export const ROW = 8;
/** Connections whose handshake was completed. */
export const TOTAL = 0;
/** Those of them that are open. */
export const CURRENT = 1;
export const TX = 2;
export const RX = 3;
/** Servers only: source ports that connections to it hold, those in TIME_WAIT included. */
export const PORTS = 4;
/**
 * Connections whose answer is due: from their SYN; with direct server return, where nobody sees the answer, from the first time
 * that the SYN comes again. Of datagrams, flows that may get one: not with direct server return.
 */
export const DUE = 5;
/** Those that were answered (of datagrams that are chosen for one by one each answer), by a reset as well; with direct server return, what the client sends after its SYN shows it. */
export const ANSWERED = 6;

/** Length in float64. */
export const STATISTICS_LENGTH = (MAX_FRONTENDS + MAX_SERVERS) * ROW;

/** Where a frontend's row begins in the statistics, by its index. */
export function frontendRow(frontend: number): number {
  return frontend * ROW;
}

/** The same of a server's. */
export function serverRow(server: number): number {
  return (MAX_FRONTENDS + server) * ROW;
}

/**
 * Loads: connections of all workers from their opening until they end, int32. A server's element is its index (`Candidate.index`), a
 * frontend's comes after those of all servers.
 */
export const LOADS_LENGTH = MAX_SERVERS + MAX_FRONTENDS;

/** A frontend's element of the loads. */
export function frontendLoad(frontend: number): number {
  return MAX_SERVERS + frontend;
}

/**
 * What each element of the loads stands for, int32, three words: address (native order), port (host order) and protocol in one (forward/endpoints.ts; 0: nothing), and a
 * generation that goes up whenever it stands for something else. By this, not by its number, a connection is known again.
 */
export const PLACE = 3;
export const PLACE_ADDRESS = 0;
export const PLACE_PORT = 1;
export const PLACE_GENERATION = 2;

/**
 * Refusals: first packets that a frontend's rules kept out, float64, a row each frontend: a column each rule (access/guard.ts), as many again for
 * what they would have kept out (`dry_run`), and one for sources that limits do not hold for.
 */
export const REFUSALS = 24;
export const REFUSED_DRY = 8;
/** New connections for whose source there was no room (access/source-table.ts), or room that another source is missed in. */
export const CROWDED = 16;
export const REFUSALS_LENGTH = MAX_FRONTENDS * REFUSALS;

/** Where a frontend's row begins in the refusals, by its index. */
export function refusalRow(frontend: number): number {
  return frontend * REFUSALS;
}
