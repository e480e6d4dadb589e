/**
 * A server's counters tell nothing of one address among several: while it answers the connections of one frontend, nobody notices
 * that those of another are lost (its address is not in the servers' script, a route or a firewall knows only the first). A
 * frontend's counters do.
 */
import type { Logger } from '../log.ts';
import { frontendKey } from './members.ts';
import type { Plan } from './plan.ts';
import { leastOf, type Observed, Silence } from './silence.ts';

/** Of a backend: who of it is up, and when the last of them had passed a check that began then. */
interface Group {
  readonly servers: readonly Observed[];
  readonly among: string;
  readonly passedAt: number | undefined;
  readonly isDatagram: boolean;
}

type Answers = (index: number) => { due: number; answered: number; heard: number } | undefined;

const LIKELY =
  "the servers' script or address for this frontend is missing, or a route, a firewall or rp_filter lets only other frontends' packets pass; see lb4 doctor";

export class FrontendSilence {
  readonly #log: Pick<Logger, 'info' | 'warn'>;
  readonly #isServerSilent: (server: string) => boolean;
  readonly #silence: Silence;
  /** Those whose servers answer nobody else are not among them: that is told of the servers. */
  readonly #silent = new Set<string>();
  /** Of those, told. */
  readonly #told = new Set<string>();

  /** @param againMs as of Silence */
  constructor(log: Pick<Logger, 'info' | 'warn'>, isServerSilent: (server: string) => boolean, againMs: number) {
    this.#log = log;
    this.#isServerSilent = isServerSilent;
    const answers = (frontend: string) => this.#told.has(frontend) && log.info({ frontend }, 'a silent frontend answers again');
    this.#silence = new Silence({ fell: () => {}, answers, suspect: () => {} }, againMs);
  }

  isSilent(key: string): boolean {
    return this.#silent.has(key);
  }

  /** @param servers all, as they were just observed */
  look(plan: Plan, servers: readonly Observed[], answers: Answers, now: number): void {
    const groups = groupsOf(plan, servers);
    const frontends = plan.frontends.flatMap(({ index, frontend, draining }) => {
      const group = groups.get(frontend.backend.name);
      const counted = answers(index);
      if (group === undefined || counted === undefined) return [];
      const { among, passedAt, isDatagram } = group;
      const { due, answered, heard } = counted;
      const observed = { key: frontendKey(frontend), up: !draining && group.servers.length > 0, due, answered, among, passedAt };
      return [{ group, ...observed, ...(isDatagram ? { datagrams: { heard, isTwoWay: group.servers.some(isTwoWay) } } : {}) }];
    });
    this.#silence.look(frontends, now);
    for (const key of this.#silent) if (!this.#silence.isSilent(key)) this.#forget(key);
    for (const frontend of frontends) {
      const { key, group } = frontend;
      if (this.#silence.isSilent(key) && group.servers.some((server) => this.#answersOthers(server))) this.#tell(key, leastOf(frontend));
    }
  }

  #answersOthers({ key, answered }: Observed): boolean {
    return answered > 0 && !this.#isServerSilent(key);
  }

  #forget(frontend: string): void {
    this.#silent.delete(frontend);
    this.#told.delete(frontend);
  }

  #tell(frontend: string, count: number): void {
    this.#silent.add(frontend);
    if (this.#told.has(frontend) || !this.#silence.isTold(frontend)) return;
    this.#told.add(frontend);
    this.#log.warn({ frontend, likely: LIKELY }, `a frontend's servers answer others, yet none of ${count} connections or more to it`);
  }
}

function isTwoWay({ datagrams }: Observed): boolean {
  return datagrams?.isTwoWay === true;
}

function groupsOf({ backends }: Plan, observed: readonly Observed[]): ReadonlyMap<string, Group> {
  const byKey = new Map(observed.map((server) => [server.key, server]));
  return new Map(
    backends.map(({ backend, servers }) => {
      const up = servers.flatMap(({ key }) => byKey.get(key) ?? []).filter((server) => server.up);
      const among = up.map(({ key }) => key).join('\n');
      // The oldest: who has not passed since may be the one that does not answer, and dead.
      const passed = up.map(({ passedAt = Number.NEGATIVE_INFINITY }) => passedAt);
      return [
        backend.name,
        {
          servers: up,
          among,
          passedAt: passed.reduce((oldest, at) => Math.min(oldest, at), Number.POSITIVE_INFINITY),
          isDatagram: up.some(({ datagrams }) => datagrams !== undefined),
        },
      ];
    }),
  );
}
