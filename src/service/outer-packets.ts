/** DSR: what packets of connections that run are sent in after a reload that has others sent otherwise. Their servers must know; nobody else tells them. */
import type { Backend, Config } from '../config/model.ts';
import { factsOf, hopsIn, type Mode, wrapping } from '../config/modes.ts';
import type { Logger } from '../log.ts';
import { GUE } from '../packet/tunnel.ts';

const STAYS = 'connections that run have their packets sent as before until they end: servers must take both meanwhile';
/** As forward/rows.ts has it. */
const FOLLOWS = 'connections that run have their packets sent so from the next one on';

/** Says it once a backend that goes on under its name. */
export function tellOuterPackets(before: Config, after: Config, mode: Mode, log: Pick<Logger, 'info' | 'warn'>): void {
  const last = new Map(before.backends.map((backend) => [backend.name, backend]));
  for (const backend of after.backends) {
    const was = last.get(backend.name);
    if (was === undefined || factsOf(mode, was).directions !== 1 || factsOf(mode, backend).directions !== 1) continue;
    const [from, to] = [textOf(was, mode), textOf(backend, mode)];
    if (from === to) continue;
    const fields = { backend: backend.name, sent: `${from} → ${to}` };
    if (hasRows(was, mode) && hasRows(backend, mode)) log.info(fields, FOLLOWS);
    else log.warn(fields, STAYS);
  }
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
