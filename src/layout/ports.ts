/**
 * Whose a local port is. The host's own connections keep what is left of the kernel's default range (ip_local_port_range, ip(7)):
 *
 *     32768 ── health checks and the host ── 33767 │ 33768 ── clients' connections, reserved for lb4 ── 61000
 *
 * Health checks are ordinary sockets of this host: the firewall rules must let their answers pass, and drop those to the others.
 */

/** Host order, inclusive. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Passthrough: connections of clients leave from these, to every (source address, server) anew. */
export const CLIENT_PORTS = { first: 33768, last: 61000 } as const satisfies PortRange;

/** Health checks leave from these. */
export const CHECK_PORTS = { first: 32768, last: 33767 } as const satisfies PortRange;

/** Whether some port is in both. */
export function overlap(a: PortRange, b: PortRange): boolean {
  return a.first <= b.last && b.first <= a.last;
}

/** How many there are. */
export function portCount({ first, last }: PortRange): number {
  return last - first + 1;
}

/** `33768-61000`, as the kernel and people write it. */
export function rangeText({ first, last }: PortRange): string {
  return `${first}-${last}`;
}

/** The UDP port that GLB's directors send to (glb-director: docs/development/gue-header.md). */
export const GUE_PORT = 19_523;
