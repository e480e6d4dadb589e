/** DSR: what packets of connections that run are sent in after a reload that has others sent otherwise. Their servers must know; nobody else tells them. */
import type { Backend, Config } from '../config/model.ts';
import { factsOf, hopsIn, type Mode, wrapping } from '../config/modes.ts';
import { summarize } from '../control/source.ts';
import type { Logger } from '../log.ts';
import { GUE } from '../packet/tunnel.ts';

const STAYS = 'connections that run have their packets sent as before until they end: servers must take both meanwhile';
/** As forward/rows.ts has it. */
const FOLLOWS = 'connections that run have their packets sent so from the next one on';
const NEW_HOPS =
  'servers are new in the table, and the others drop what they would pass on to them, where only their counters tell: install the scripts of the ' +
  'others anew before a server drains or its checks fail: lb4 rules --dsr --config=FILE --for S | ssh root@S sh -s install';

/** Says it once a backend that goes on under its name. */
export function tellOuterPackets(before: Config, after: Config, mode: Mode, log: Pick<Logger, 'info' | 'warn'>): void {
  const last = new Map(before.backends.map((backend) => [backend.name, backend]));
  for (const backend of after.backends) {
    const was = last.get(backend.name);
    if (was === undefined || factsOf(mode, was).directions !== 1 || factsOf(mode, backend).directions !== 1) continue;
    const goesOn = hasRows(was, mode) && hasRows(backend, mode);
    if (goesOn) tellNewHops(was, backend, log);
    const [from, to] = [textOf(was, mode), textOf(backend, mode)];
    if (from === to) continue;
    const fields = { backend: backend.name, sent: `${from} → ${to}` };
    if (goesOn) log.info(fields, FOLLOWS);
    else log.warn(fields, STAYS);
  }
}

/** Scripts on servers know those that the table had when they were made. */
function tellNewHops(was: Backend, { name, servers, templates }: Backend, log: Pick<Logger, 'warn'>): void {
  // Where some are found they take any.
  if (was.templates !== undefined) return;
  const known = new Set(was.servers.map(({ addr }) => addr.ip));
  const addresses = [...new Set(servers.map(({ addr }) => addr.ip))];
  const others = addresses.filter((ip) => known.has(ip));
  const fresh = [...addresses.filter((ip) => !known.has(ip)), ...(templates ?? []).map((template) => template.name)];
  if (fresh.length > 0 && others.length > 0) log.warn({ backend: name, servers: summarize(fresh), others: summarize(others) }, NEW_HOPS);
}

/** Its flows are copies of a table's rows. */
function hasRows(backend: Backend, mode: Mode): boolean {
  return wrapping(mode, backend) === GUE && backend.glb !== undefined;
}

/** `gue to port 6080 from 10.0.0.9, 40 bytes more`: as far as a server, or a link, takes it or not. */
function textOf(backend: Backend, mode: Mode): string {
  const { dsr, tunnel, glb } = backend;
  const bytes = wrapping(mode, backend);
  if (bytes === undefined || tunnel === undefined) return dsr;
  const hops = bytes === GUE && glb !== undefined ? hopsIn(glb) : 0;
  const port = tunnel.port === 0 ? '' : ` to port ${tunnel.port}`;
  const source = tunnel.source === undefined ? '' : ` from ${tunnel.source}`;
  return `${dsr}${port}${source}, ${bytes + 4 * hops} bytes more`;
}
