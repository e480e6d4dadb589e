/** A configuration with the servers that were found, as if they stood in the file. */
import { serverProblem } from '../config/address.ts';
import type { Address, Backend, Config, Finder, Server, ServerTemplate } from '../config/model.ts';
import { LIMITS } from '../layout/limits.ts';
import type { Found } from './answer.ts';

export interface Expanded {
  readonly config: Config;
  /** Of those that were left out: why, one line each. */
  readonly left: readonly string[];
}

/** What is known of a finder; undefined: nothing yet. */
export type AnswerOf = (finder: Finder) => readonly Found[] | undefined;
/** Why an address can be no server's of that backend, to follow it in a sentence; undefined: it can. */
export type Refuse = (addr: Address, backend: Backend, template: ServerTemplate) => string | undefined;

/** Servers are called `NAME@ADDRESS`. Those that another server of the backend is already, or beyond what a file may hold, are left out. */
export function expand(config: Config, answerOf: AnswerOf, refuse: Refuse): Expanded {
  if (!config.backends.some(({ templates = [] }) => templates.length > 0)) return { config, left: [] };
  const left: string[] = [];
  let room = LIMITS.servers - config.backends.reduce((sum, { servers }) => sum + servers.length, 0);
  const byBackend = new Map(
    config.backends.map((backend) => {
      const taken = new Set(backend.servers.map(({ addr }) => placeOf(addr, backend)));
      const servers = (backend.templates ?? []).flatMap((template) =>
        (answerOf(template.finder) ?? []).flatMap((found): Server[] => {
          const place = placeOf(found.addr, backend);
          const problem =
            serverProblem(found.addr) ??
            refuse(found.addr, backend, template) ??
            (room === 0 ? `is one server too many; allowed: ${LIMITS.servers}` : undefined);
          if (problem !== undefined) left.push(`${backend.name}/${template.name}: ${found.addr.text} ${problem}`);
          if (problem !== undefined || taken.has(place)) return [];
          taken.add(place);
          room--;
          return [serverOf(template, found)];
        }),
      );
      return [backend, { ...backend, servers: [...backend.servers, ...servers] }] as const;
    }),
  );
  const frontends = config.frontends.map((frontend) => ({ ...frontend, backend: byBackend.get(frontend.backend) ?? frontend.backend }));
  return { config: { ...config, frontends, backends: [...byBackend.values()] }, left };
}

/** Of pings a server has no port. */
function placeOf({ ip, text }: Address, { protocol }: Backend): string {
  return protocol.name === 'icmp' ? ip : text;
}

const MOST_WEIGHT = 65_535;

function serverOf({ name, weight, maxconn, backup }: ServerTemplate, found: Found): Server {
  return {
    name: `${name}@${found.addr.text}`,
    addr: found.addr,
    weight: Math.min(MOST_WEIGHT, weight * found.weight),
    maxconn,
    backup: backup || found.backup,
  };
}
