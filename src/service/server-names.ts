/** Servers by the names that operators give them: BACKEND/SERVER, as the file has them. */
import { OrderError } from '../control/orders.ts';
import { didYouMean } from '../suggest.ts';
import type { Plan, PlannedBackend, PlannedServer } from './plan.ts';
import { labelOf } from './view.ts';

/** A server by one of its protocols. */
export interface NamedServer {
  readonly backend: PlannedBackend['backend'];
  readonly choice: PlannedBackend['choice'];
  readonly server: PlannedServer;
}

/** `web/a` */
export function serverName(backend: NamedServer['backend'], { server }: PlannedServer): string {
  return `${labelOf(backend)}/${server.name}`;
}

/**
 * All that are meant: each protocol of a backend, and one of that name that has left the file. Those of the file come first.
 * @throws OrderError where there is none, or names with slashes name two
 */
export function serversNamed(name: string, { backends }: Plan): NamedServer[] {
  const all = backends.flatMap(({ backend, choice, servers }) => servers.map((server) => ({ backend, choice, server })));
  const found = all.filter((one) => serverName(one.backend, one.server) === name);
  if (found.length === 0) throw unknown(name, all);
  if (new Set(found.map(({ backend }) => labelOf(backend))).size > 1)
    throw new OrderError('wrong', `"${name}" names servers of two backends`);
  return found.toSorted((a, b) => Number(a.server.draining) - Number(b.server.draining));
}

function unknown(name: string, all: readonly NamedServer[]): OrderError {
  const names = [...new Set(all.map(({ backend, server }) => serverName(backend, server)))];
  const hint = didYouMean(name, names) || (names.length > 0 && names.length <= 10 ? `; there are: ${names.join(', ')}` : '; see lb4 list');
  return new OrderError('unknown', `there is no server "${name}"${hint}`);
}
