/** GET /v1/status and /v1/servers: the state of all, as an operator asks for it. */
import type { Orders } from './orders.ts';
import { type BackendRow, type FrontendRow, type Refusal, type ServerRow, takeSnapshot } from './snapshot.ts';
import { type Counters, type PacketCounters, summarize } from './source.ts';

/** `lb4 status`. */
export function statusOf(orders: Orders) {
  const { mode, all, packets, frontends, backends, reload, host, stopping, discoveryFailing } = takeSnapshot(orders.source, orders.view());
  const servers = backends.flatMap((backend) => backend.servers);
  const count = (state: string) => servers.filter(({ view }) => view.state === state).length;
  return {
    ...orders.about(),
    mode,
    stopping,
    frontends: frontends.filter(({ draining }) => !draining).length,
    backends: backends.length,
    servers: { up: count('up'), unknown: count('unknown'), drain: count('drain'), down: count('down') },
    connections: { current: all.current, total: all.total },
    /** Names of servers that could not be looked up the last time. */
    discovery_failing: discoveryFailing,
    /** Workers that see a flood of SYNs. */
    syn_floods: packets?.synFloods ?? 0,
    set: servers.filter(({ view }) => view.set !== undefined).length,
    reload: { succeeded: reload.succeeded, failed: reload.failed, last_error: reload.lastError ?? null, at: reload.at },
    host: host
      .filter(({ missing }) => missing.length > 0)
      .map(({ name, missing, reason }) => `${name}: ${summarize(missing)}${reason === undefined ? '' : `: ${reason}`}`),
  };
}
export type Status = ReturnType<typeof statusOf>;

/** `lb4 list`. */
export function listOf(orders: Orders) {
  const { mode, all, packets, frontends, backends } = takeSnapshot(orders.source, orders.view());
  return {
    mode,
    totals: totals(all),
    packets: packets === undefined ? null : packetsOf(packets),
    frontends: frontends.map(frontendOf),
    backends: backends.map(backendOf),
  };
}
export type Listing = ReturnType<typeof listOf>;

/** Verdicts of packets that were dropped or refused: forward/verdict.ts. */
const REFUSED = /^(drop|reset|denied|limited|unreachable)/;

function packetsOf({ verdicts, received, dropped, transmitFailed, fastPath }: PacketCounters) {
  const refused = Object.entries(verdicts).filter(([name]) => REFUSED.test(name));
  // What the ring, and the kernel that was to send, had no room for has no verdict.
  const lost = { 'ring full': dropped, 'not sent': transmitFailed };
  return {
    received: received + (fastPath?.forwarded ?? 0),
    refused: { ...Object.fromEntries(refused), ...lost } as Record<string, number>,
  };
}

function frontendOf({ name, protocol, address, backend, draining, silent, counters, refusals }: FrontendRow) {
  return { name, protocol, address, backend, draining, silent, refusals: refusals.map(refusalOf), ...totals(counters) };
}

function refusalOf({ rule, refused, wouldRefuse }: Refusal) {
  return { rule, refused, would_refuse: wouldRefuse };
}

function backendOf({ name, protocol, balance, queued, counters, servers }: BackendRow) {
  return { name, protocol, balance, queued: queued ?? null, ...totals(counters), servers: servers.map(serverOf) };
}

function serverOf({ view, counters }: ServerRow) {
  const { name, address, state, weight, fileWeight, set, backup, damped, silent, deadEnds, lastCheck, lastResult, lastCheckAge } = view;
  return {
    name,
    address,
    state,
    weight,
    file_weight: fileWeight,
    set: set ?? null,
    backup,
    damped,
    silent: silent ?? false,
    dead_ends: deadEnds ?? 0,
    last_check: lastCheck,
    last_check_result: lastResult ?? null,
    last_check_age: lastCheckAge ?? null,
    load: counters.load,
    ...totals(counters),
  };
}

function totals({ current, total, bytesTx, bytesRx }: Counters) {
  return { current, total, bytes_tx: bytesTx, bytes_rx: bytesRx };
}
