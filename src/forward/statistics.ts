/**
 * Counters in shared memory, written by the worker alone, read by anyone: float64, exact to 2^53. A row of four for
 * each frontend, then for each server; tx is client → server, rx is server → client, in bytes of TCP payload.
 */
import { MAX_FRONTENDS, MAX_SERVERS } from './services.ts';

export const ROW = 4;
/** Connections whose handshake was completed. */
export const TOTAL = 0;
/** Those of them that are open. */
export const CURRENT = 1;
export const TX = 2;
export const RX = 3;

/** Length in float64. */
export const STATISTICS_LENGTH = (MAX_FRONTENDS + MAX_SERVERS) * ROW;

export function frontendRow(frontend: number): number {
  return frontend * ROW;
}

export function serverRow(server: number): number {
  return (MAX_FRONTENDS + server) * ROW;
}
