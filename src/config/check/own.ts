/** Servers that are the balancer itself: some loop, and no packet mode can balance to any of them. */
import { type Address, familyAndPort, isAny, isLoopback } from '../address.ts';
import { holdsVip, isPacketMode, type Mode } from '../modes.ts';
import type { TomlNode } from '../read/toml.ts';
import type { ServiceProtocol } from '../schema/services.ts';
import { error, type Finding, show } from './finding.ts';
import { forwardingKeys, frontendPlaces, type Place, serverPlaces, tables } from './places.ts';

/** By which connections can lead back: a check is none of pings. */
const WITH_PORTS = ['tcp', 'udp'] as const satisfies readonly ServiceProtocol[];

/** Tells whether an address is this host's. */
export type IsOwn = (address: Pick<Address, 'ip' | 'family'>) => boolean;

type FrontendTable = ReturnType<typeof frontendPlaces>[number];

/** A server whose address a frontend listens on. */
interface Step {
  readonly server: Place;
  readonly frontend: FrontendTable;
  /** Only so because this very host has the server's address. */
  readonly byHost: boolean;
}

/**
 * Servers of a frontend that lead back to it, be it through other frontends: its first connection or health check would open
 * connections without end. Without `isOwn`, those that do so on every host.
 */
export function loopFindings(root: TomlNode, isOwn: IsOwn | undefined): Finding[] {
  const all = frontendPlaces(root);
  const severity = isHere(all, isOwn) ? 'error' : 'warning';
  const edges = WITH_PORTS.flatMap((protocol) => {
    const frontends = all.filter(({ protocols }) => protocols.includes(protocol));
    return backEdges(frontends, new Steps(root, frontends, isOwn));
  });
  // What leads back by TCP and by UDP is told once.
  const once = new Map(edges.map((edge) => [edge.server.node, edge]));
  return [...once.values()].map(({ server, frontend, byHost }) => ({
    severity: byHost ? severity : 'error',
    path: server.path,
    position: server.node.at,
    message:
      `${show(server.address.text)} leads back to ${frontend.owner}, line ${frontend.node.at.line}: ` +
      `its first connection or health check would open connections without end; needed: an address and port that no frontend before it listens on`,
  }));
}

/**
 * The packet modes: the kernel delivers what is sent to an own address by itself, so answers never come by lb4. Nothing is said of
 * a file that is meant for another host, perhaps checked on one of its servers.
 */
export function localServerFindings(root: TomlNode, mode: Mode | undefined, isOwn: IsOwn | undefined): Finding[] {
  if (mode === undefined || !isPacketMode(mode) || isOwn === undefined) return [];
  const isLocal = isHere(frontendPlaces(root), isOwn) ? (address: Address) => isLoopback(address) || isOwn(address) : isLoopback;
  const servers = tables(root, 'backends').flatMap(({ name }) => serverPlaces(root, name));
  return servers
    .filter(({ address }) => address.family === 4 && isLocal(address))
    .map(({ address, node, path }) => {
      const needed = 'needed: a server on another host, or proxy mode';
      return error(node, path, `${show(address.text)} is an address of this host, whose packets no packet mode can balance; ${needed}`);
    });
}

/** The address that this host would send from, `192.0.2.1`; undefined where that cannot be told. */
export type SourceTowards = (address: Address) => string | undefined;

/**
 * Where servers hold the VIP (L2 DSR, tunnels) health checks cannot come from it, so this host needs another address towards them.
 * Nothing is said of a file that is meant for another host.
 */
export function checkSourceFindings(root: TomlNode, mode: Mode | undefined, isOwn?: IsOwn, sourceTowards?: SourceTowards): Finding[] {
  const frontends = frontendPlaces(root);
  if (mode === undefined || sourceTowards === undefined || !isHere(frontends, isOwn)) return [];
  const vips = new Set(frontends.map(({ address }) => address.ip));
  return tables(root, 'backends').flatMap(({ name, path, node }) => {
    const dsr = node.children.get('dsr');
    if (dsr === undefined || !holdsVip(mode, forwardingKeys(node))) return [];
    const server = serverPlaces(root, name).find(({ address }) => address.family === 4 && vips.has(sourceTowards(address) ?? ''));
    if (server === undefined) return [];
    const needed = `needed: an address of this host that is no frontend's towards ${server.address.ip}, to check from`;
    return [
      error(
        dsr,
        [...path, 'dsr'],
        `${show(dsr.value)}: this host would check its servers from a frontend's address, which they hold, too; ${needed}`,
      ),
    ];
  });
}

/** A file may be checked on another host than it is for: this one is meant where it has the addresses that are listened on. */
export function isHere(frontends: readonly FrontendTable[], isOwn: IsOwn | undefined): boolean {
  return isOwn !== undefined && frontends.every(({ address }) => isAny(address) || isLoopback(address) || isOwn(address));
}

/** From a backend to the frontends that its servers are; asked once a backend, however many frontends share it. */
class Steps {
  readonly #root: TomlNode;
  readonly #exact: ReadonlyMap<string, FrontendTable>;
  /** Those that listen on every address, by family and port. */
  readonly #any: ReadonlyMap<string, FrontendTable>;
  readonly #isOwn: IsOwn | undefined;

  constructor(root: TomlNode, frontends: readonly FrontendTable[], isOwn: IsOwn | undefined) {
    this.#root = root;
    this.#isOwn = isOwn;
    this.#exact = new Map(frontends.map((frontend) => [frontend.address.text, frontend]));
    this.#any = new Map(frontends.filter(({ address }) => isAny(address)).map((frontend) => [familyAndPort(frontend.address), frontend]));
  }

  from(backend: string): Step[] {
    return serverPlaces(this.#root, backend).flatMap((server): Step[] => {
      const exact = this.#exact.get(server.address.text);
      if (exact !== undefined) return [{ server, frontend: exact, byHost: false }];
      const any = this.#any.get(familyAndPort(server.address));
      if (any === undefined) return [];
      if (isLoopback(server.address)) return [{ server, frontend: any, byHost: false }];
      return this.#isOwn?.(server.address) ? [{ server, frontend: any, byHost: true }] : [];
    });
  }
}

/** The steps that close a circle, each once: a search in depth from every frontend's backend. */
function backEdges(frontends: readonly FrontendTable[], steps: Steps): Step[] {
  const state = new Map<string, 'on the way' | 'done'>();
  const found: Step[] = [];
  const visit = (backend: unknown): void => {
    if (typeof backend !== 'string' || state.has(backend)) return;
    state.set(backend, 'on the way');
    for (const step of steps.from(backend)) {
      const next = step.frontend.backend;
      if (typeof next === 'string' && state.get(next) === 'on the way') found.push(step);
      else visit(next);
    }
    state.set(backend, 'done');
  };
  for (const { backend } of frontends) visit(backend);
  return found;
}
