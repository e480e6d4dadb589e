/** What the page draws, made of two answers of /stats and the time between them. Pure: no document, no clock. */
import { setText } from './orders.js';

/** Of charts: five minutes of a sample a second. */
export const KEPT = 300;
/** Of a server's small chart. */
export const SPARK = 60;

/** @typedef {{ at: number, stats: any }} Answer `at` in seconds */

/** A counter's growth a second; 0 where it began anew. */
export function rate(before, after, seconds) {
  return seconds > 0 && after >= before ? (after - before) / seconds : 0;
}

/** Packets that lb4 has seen: in its rings, and those that the kernel has forwarded by itself; undefined in proxy mode. */
export function packetsOf({ lb4 }) {
  return lb4.frames && lb4.frames.received + (lb4.fast_path?.forwarded ?? 0);
}

/** Packets that did not go on, by verdict: dropped, or answered with a reset or an error. */
export function refusedOf({ lb4 }) {
  const verdicts = Object.entries(lb4.verdicts ?? {}).filter(([name]) => /^(drop|reset|denied|limited|unreachable)/.test(name));
  const ring =
    lb4.frames === undefined
      ? []
      : [
          ['ring full', lb4.frames.dropped],
          ['not sent', lb4.frames.transmit_failed],
        ];
  return Object.fromEntries([...verdicts, ...ring]);
}

/** What all charts need of a moment. `last` may be undefined: then all that is a rate is 0. */
export function sampleOf(last, { at, stats }) {
  const seconds = last === undefined ? 0 : at - last.at;
  const of = (read) => rate(last === undefined ? 0 : read(last.stats), read(stats), seconds);
  const refused = refusedOf(stats);
  const before = last === undefined ? refused : refusedOf(last.stats);
  return {
    at,
    connections: stats.current_connections,
    opened: of((one) => one.total_connections),
    packets: packetsOf(stats) === undefined ? undefined : of((one) => packetsOf(one) ?? 0),
    bitsIn: 8 * of((one) => one.total_bytes_tx),
    bitsOut: 8 * of((one) => one.total_bytes_rx),
    refused: Object.fromEntries(Object.entries(refused).map(([name, count]) => [name, rate(before[name] ?? 0, count, seconds)])),
  };
}

/** A row a server, in the order of /stats. */
export function serversOf(last, { at, stats }) {
  const seconds = last === undefined ? 0 : at - last.at;
  return Object.entries(stats.lb4.servers).flatMap(([backend, servers]) =>
    Object.entries(servers).map(([address, server]) => {
      const before = last?.stats.lb4.servers[backend]?.[address] ?? server;
      return {
        key: `${backend} ${address}`,
        backend,
        server: server.name,
        fullName: server.full_name,
        address,
        state: stateOf(server),
        weight: server.weight,
        fileWeight: server.file_weight,
        set: server.set ?? {},
        byControl: setText(server.set ?? {}),
        backup: server.backup,
        sessions: server.current_connections,
        load: server.load,
        opened: rate(before.total_connections, server.total_connections, seconds),
        bits: 8 * (rate(before.bytes_tx, server.bytes_tx, seconds) + rate(before.bytes_rx, server.bytes_rx, seconds)),
        lastCheck: server.last_check,
        lastResult: server.last_check_result,
        checkAge: server.last_check_age,
        failures: server.check_failures,
      };
    }),
  );
}

/** `state` as lb4 has it, with what speaks against a server that is up: it is silent, or no way leads to it. */
function stateOf({ state, silent, damped, dead_ends: deadEnds }) {
  if (state !== 'up') return damped ? 'damped' : state;
  if (silent) return 'silent';
  return deadEnds > 0 ? 'no way' : state;
}

/** The verdicts with most packets in `samples`, at most so many, those with any at all. */
export function worst(samples, most) {
  const sums = new Map();
  for (const { refused } of samples) for (const [name, count] of Object.entries(refused)) sums.set(name, (sums.get(name) ?? 0) + count);
  const seen = [...sums].filter(([, sum]) => sum > 0).sort(([, a], [, b]) => b - a);
  return seen.slice(0, most).map(([name]) => name);
}

/** Rows in which each word is somewhere, in the order of a column; equal ones stay as they were. */
export function arranged(rows, filter, column, isDown) {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const kept = rows.filter(({ backend, server, address, state, byControl, lastCheck }) => {
    const set = byControl === '' ? '' : `${byControl} by control`;
    const text = `${backend} ${server} ${address} ${state} ${set} ${lastCheck}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  if (column === undefined) return kept;
  const sign = isDown ? -1 : 1;
  return kept.toSorted((a, b) => sign * compare(a[column], b[column]));
}

function compare(a, b) {
  return typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b), 'en', { numeric: true });
}

const UNITS = ['', ' k', ' M', ' G', ' T'];

/** Three digits and a unit: 1234567 is "1.23 M". */
export function short(number) {
  let [value, unit] = [number, 0];
  while (value >= 999.5 && unit < UNITS.length - 1) [value, unit] = [value / 1000, unit + 1];
  const digits = value >= 100 || Number.isInteger(value) ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)}${UNITS[unit]}`;
}

/** How a check went, how long ago, and why. */
export function checkText({ lastResult, checkAge, lastCheck }) {
  return lastResult === undefined ? lastCheck : `${lastResult}, ${ago(checkAge)}: ${lastCheck}`;
}

function ago(seconds) {
  if (seconds < 1) return 'just now';
  const [amount, unit] = seconds < 120 ? [seconds, 's'] : seconds < 7200 ? [seconds / 60, 'min'] : [seconds / 3600, 'h'];
  return `${Math.floor(amount)} ${unit} ago`;
}
