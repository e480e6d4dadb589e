/** The frontends and servers of the file, and those that left it while their connections go on, each with its index; source addresses likewise, without. */
import type { Address, Backend, Config, Frontend, Server } from '../config/model.ts';
import { sweepTime } from '../engine/duties.ts';
import { type CountersOf, type Member, Roster, type RosterState } from './roster.ts';
import { Sources } from './sources.ts';

/** More than two sweeps take: a tick may come late, and orders need their time to arrive. */
const SPARE_MS = 1000;

/** A server and the backend it belongs to. */
export interface BackendServer {
  readonly backend: Backend;
  readonly server: Server;
}

/** Who has left for good. */
export interface Gone {
  readonly what: 'frontend' | 'server';
  readonly key: string;
  /** Those that it still had, which end. */
  readonly connections: number;
}

/** What a data path knows of those that leave. */
interface Expiring {
  readonly frontend: CountersOf;
  readonly server: CountersOf;
  usesSource?(ip: string): boolean;
}

/** {@link Members} as plain data. */
export interface MembersState {
  readonly frontends: RosterState<Omit<Frontend, 'backend'> & { readonly backend: string }>;
  readonly servers: RosterState<{ readonly backend: string; readonly server: Server }>;
  /** Addresses of this host that connections leave from: {@link Sources}. */
  readonly sources: readonly string[];
  /** Those of the above. */
  readonly backends: readonly Backend[];
}

export class Members {
  readonly frontends: Roster<Frontend>;
  readonly servers: Roster<BackendServer>;
  readonly sources = new Sources();

  /** @param last what an lb4 that died knew: whoever is still here keeps its index, the others drain */
  constructor(config: Config, last?: MembersState) {
    // Those of this process for good: another capacity needs a restart. The proxy, which counts at once, is as well off with it.
    const settledMs = settledTime(config.passthrough.connectionTrackerCapacity);
    this.frontends = new Roster(settledMs);
    this.servers = new Roster(settledMs);
    if (last !== undefined) this.#restore(last, config);
    this.enrol(config);
  }

  /** Another one whenever the state is. */
  get version(): number {
    return this.frontends.version + this.servers.version + this.sources.version;
  }

  /** All that the next lb4 must know to go on, as plain data. */
  state(): MembersState {
    const backends = new Map<string, Backend>();
    const name = (backend: Backend): string => {
      // Its servers are members of their own.
      const { templates: _templates, ...kept } = backend;
      backends.set(backend.name, { ...kept, servers: [] });
      return backend.name;
    };
    return {
      frontends: this.frontends.state((frontend) => ({ ...frontend, backend: name(frontend.backend) })),
      servers: this.servers.state(({ backend, server }) => ({ backend: name(backend), server })),
      sources: this.sources.all,
      backends: [...backends.values()],
    };
  }

  #restore({ frontends, servers, sources, backends }: MembersState, config: Config): void {
    const byName = new Map([...backends, ...config.backends].map((backend) => [backend.name, backend]));
    const now = performance.now();
    this.frontends.restore(frontends, (item) => ({ ...item, backend: byName.get(item.backend)! }), now);
    this.sources.set(sources);
    this.servers.restore(servers, ({ backend, server }) => ({ backend: byName.get(backend)!, server }), now);
  }

  /** Makes those of `config` the ones that are here; others begin to drain. Returns what takes it back: nobody must have been told of it. */
  enrol(config: Config): () => void {
    const now = performance.now();
    const undo = [
      this.frontends.set(frontendMembers(config), now),
      this.servers.set(serverMembers(config), now),
      this.sources.set(config.backends.flatMap(({ sourceAddrs }) => sourceAddrs)),
    ];
    return () => undo.forEach((step) => step());
  }

  /** Whether any is on the way out. */
  get isSettling(): boolean {
    return this.frontends.isSettling || this.servers.isSettling || this.sources.former.length > 0;
  }

  /** Lets go who has drained or is out of time. Returns whether the data path must be told. */
  expire(path: Expiring, gone: (one: Gone) => void = () => {}): boolean {
    const now = performance.now();
    const of = (what: Gone['what']) => (key: string, connections: number) => gone({ what, key, connections });
    const left = [
      this.frontends.expire(now, (index) => path.frontend(index), of('frontend')),
      this.servers.expire(now, (index) => path.server(index), of('server')),
      this.sources.expire((ip) => path.usesSource?.(ip) ?? false),
    ];
    return left.includes(true);
  }
}

/** Milliseconds after which nothing is left of who is gone: one sweep may have begun before, the next one passes all. */
export function settledTime(connections: number): number {
  return 2 * sweepTime(connections) + SPARE_MS;
}

/** With address and protocol: a name that moves to others is another server. */
export function serverKey({ name, label = name, protocol }: Backend, server: Server): string {
  return `${label} / ${server.name} / ${spelled(server.addr, protocol.name)}`;
}

/** Who is checked: the protocols of a backend whose servers are checked alike share a check, and what it says. */
export function checkKey({ name, label = name, healthCheck }: Backend, server: Server): string {
  return `${label} / ${server.name} / ${spelled(server.addr, checksBy(healthCheck))}`;
}

/** With both likewise. */
export function frontendKey({ name, label = name, listen, backend }: Frontend): string {
  return `${label} ${spelled(listen, backend.protocol.name)}`;
}

/** As the log has it: a port alone is TCP's, else its protocol follows (`192.0.2.1:53/udp`). */
function spelled({ text }: Address, protocol: string): string {
  return protocol === 'tcp' ? text : `${text}/${protocol}`;
}

/** Any but that of UDP is by TCP, or nobody knows by what. */
function checksBy({ type }: { readonly type: string }): string {
  return type === 'udp' ? type : 'tcp';
}

function frontendMembers(config: Config): Member<Frontend>[] {
  return config.frontends.map((frontend) => ({
    key: frontendKey(frontend),
    group: '',
    item: frontend,
    drainMs: frontend.backend.drainTimeoutMs,
  }));
}

function serverMembers(config: Config): Member<BackendServer>[] {
  return config.backends.flatMap((backend) =>
    backend.servers.map((server) => ({
      key: serverKey(backend, server),
      group: backend.name,
      item: { backend, server },
      drainMs: backend.drainTimeoutMs,
    })),
  );
}
