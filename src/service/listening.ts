/** Listens for the servers' answers while lb4 runs in a packet mode, and tells when there are none. */
import { MODES, type Mode } from '../config/modes.ts';
import type { HealthChecker } from '../health/checker.ts';
import { CLIENT_PORTS, rangeText } from '../layout/ports.ts';
import type { Logger } from '../log.ts';
import type { DataPath } from './data-path.ts';
import { FrontendSilence } from './frontend-silence.ts';
import { isOwn } from './host.ts';
import type { Plan, PlannedServer } from './plan.ts';
import { AGAIN_MS, CONNECTIONS, FLOWS, type Observed, Silence } from './silence.ts';

export interface ListeningParts {
  readonly mode: Mode;
  readonly health: Pick<HealthChecker, 'passedAt' | 'suspect' | 'answersDatagrams'>;
  readonly log: Pick<Logger, 'info' | 'warn'>;
}

const EVERY_MS = 1000;
/** A line names so many servers. */
const NAMED = 10;

/** What it usually is, and how to mend it. */
const LIKELY = {
  byUs:
    'the servers send replies elsewhere than through this host (their route to the frontend), or something drops them on the way: ' +
    `a firewall rule for ports ${rangeText(CLIENT_PORTS)}, br_netfilter on a bridge, strict rp_filter on a router between; see lb4 doctor`,
  pastUs:
    "the script of `lb4 rules --dsr --for SERVER --config=FILE` is not installed on the servers, they lack the frontend's address or a route to the clients, or a " +
    'firewall or strict rp_filter on the way drops what they answer; `lb4 doctor --dsr --for SERVER --config=FILE` tells which',
  // Refused at the start, but an address may come later: a VIP that fails over, say.
  local: 'their addresses have become addresses of this host, whose packets no packet mode can balance',
} as const;

const CHECKED = 'servers pass their health checks, yet';

export class Listening {
  readonly #parts: ListeningParts;
  readonly #silence: Silence;
  readonly #frontends: FrontendSilence;
  #servers: readonly PlannedServer[] = [];
  /** Of those, by their keys, whose backend asks for no checks: then nobody else can tell that they are dead. */
  #unchecked: ReadonlySet<string> = new Set();
  /** Those whose protocol has no connections. */
  #ofDatagrams: ReadonlySet<string> = new Set();
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: ListeningParts) {
    this.#parts = parts;
    const againMs = MODES[parts.mode].directions === 2 ? 0 : AGAIN_MS;
    const reports = {
      fell: (keys: readonly string[]) => this.#tell(new Set(keys)),
      answers: (server: string) => parts.log.info({ server }, 'a silent server answers again'),
      suspect: (server: string) => this.#suspect(server),
    };
    this.#silence = new Silence(reports, againMs);
    this.#frontends = new FrontendSilence(parts.log, (server) => this.#silence.isSilent(server), againMs);
  }

  /** From now on. Proxy mode makes its own connections, and hears itself whether one is answered. */
  start(path: DataPath, plan: () => Plan | undefined): void {
    if (path.answers === undefined) return;
    // At once, so that the very first connections count.
    this.#look(path, plan());
    this.#timer = setInterval(() => this.#look(path, plan()), EVERY_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  isSilent(server: string): boolean {
    return this.#silence.isSilent(server);
  }

  /** By its key (members.ts): connections to it get no answer, though one of its servers at least answers others. */
  isFrontendSilent(frontend: string): boolean {
    return this.#frontends.isSilent(frontend);
  }

  #look(path: DataPath, plan: Plan | undefined): void {
    const now = performance.now();
    const backends = plan?.backends ?? [];
    this.#servers = backends.flatMap(({ servers }) => servers);
    this.#unchecked = keysOf(backends.filter(({ backend }) => backend.healthCheck.type === 'none'));
    this.#ofDatagrams = keysOf(backends.filter(({ backend }) => backend.protocol.name !== 'tcp'));
    const observed: Observed[] = backends.flatMap(({ servers }) => {
      const isTwoWay = servers.some(({ key, checkKey }) => this.#silence.isAnswering(key) || this.#parts.health.answersDatagrams(checkKey));
      return servers.flatMap(({ key, checkKey, index, draining, state }) => {
        const counted = path.answers?.(index);
        if (counted === undefined) return [];
        const up = !draining && state !== 'down';
        const passedAt = this.#unchecked.has(key) ? now : this.#parts.health.passedAt(checkKey);
        const datagrams = { heard: path.server(index).bytesRx, isTwoWay };
        return [{ key, up, ...counted, passedAt, ...(this.#ofDatagrams.has(key) ? { datagrams } : {}) }];
      });
    });
    this.#silence.look(observed, now);
    if (plan !== undefined) this.#frontends.look(plan, observed, (index) => answersOf(path, index), now);
  }

  #suspect(server: string): void {
    const checked = this.#servers.find(({ key }) => key === server);
    if (checked !== undefined) this.#parts.health.suspect(checked.checkKey, 'connections get no answer');
  }

  #tell(keys: ReadonlySet<string>): void {
    const fallen = this.#servers.filter(({ key }) => keys.has(key));
    const isOfDatagrams = ({ key }: PlannedServer) => this.#ofDatagrams.has(key);
    this.#tellOf(
      fallen.filter((server) => !isOfDatagrams(server)),
      `${CONNECTIONS} connections or more`,
    );
    this.#tellOf(fallen.filter(isOfDatagrams), `${FLOWS} flows of datagrams or more, of a protocol that is answered otherwise`);
  }

  #tellOf(fallen: readonly PlannedServer[], what: string): void {
    const { log, mode } = this.#parts;
    const local = fallen.filter(({ server }) => isOwn(server.addr));
    const others = fallen.filter((server) => !local.includes(server));
    const isUnchecked = ({ key }: PlannedServer) => this.#unchecked.has(key);
    const likelyOthers = MODES[mode].directions === 2 ? LIKELY.byUs : LIKELY.pastUs;
    const groups = [
      [local, LIKELY.local, CHECKED],
      [others.filter((server) => !isUnchecked(server)), likelyOthers, CHECKED],
      [others.filter(isUnchecked), `they are dead; or ${likelyOthers}`, 'servers that are not checked'],
    ] as const;
    for (const [group, likely, who] of groups) {
      const servers = group.slice(0, NAMED).map(({ key }) => key);
      if (servers.length === 0) continue;
      log.warn({ count: group.length, servers, likely }, `${who} answer none of ${what}`);
    }
  }
}

function keysOf(backends: Plan['backends']): ReadonlySet<string> {
  return new Set(backends.flatMap(({ servers }) => servers.map(({ key }) => key)));
}

function answersOf(path: DataPath, frontend: number) {
  const counted = path.frontendAnswers?.(frontend);
  return counted === undefined ? undefined : { ...counted, heard: path.frontend(frontend).bytesRx };
}
