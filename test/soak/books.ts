/** Counters that have to add up, over restarts of whatever kind: each packet received has one verdict, each refusal a rule, each connection a frontend and a backend. */
import type { Balancer, Stats } from '../lab/balancer.ts';

/**
 * Packets that a kill may take from one side or the other: what was in the ring, which is received and never judged, and what was judged since the worker's last
 * tick, of which no more than these come in so long.
 */
const IN_HAND = 1000;
/** Looks in a row that are the same, 50 ms from each other: a worker enters what it has received ten times a second at the least, while it has connections. */
const LOOKS = 5;

interface Account {
  readonly received: number;
  /** How many have a verdict less. */
  readonly unjudged: number;
  /** Those that lists deny, by verdict and by rule. */
  readonly denied: number;
  readonly ruled: number;
  /** SYNs that were dropped in a flood. */
  readonly firstSyns: number;
  /** Connections of frontends, and of backends. */
  readonly accepted: number;
  readonly served: number;
  /** First packets that the kernel has dropped: begins anew with each process, as nothing else here does. */
  readonly early: number;
}

const NOTHING: Account = { received: 0, unjudged: 0, denied: 0, ruled: 0, firstSyns: 0, accepted: 0, served: 0, early: 0 };

export class Books {
  #last = NOTHING;

  /** How often a list has denied somebody, by the last audit. */
  get denied(): number {
    return this.#last.denied;
  }

  /**
   * To be asked while nothing is under way.
   * @param isKilled the last process was killed since the last audit
   * @returns what does not add up, and what there is, in words
   */
  async audit(balancer: Balancer, isKilled: boolean): Promise<{ readonly wrong: string[]; readonly seen: string }> {
    const [last, now] = [this.#last, await atRest(balancer)];
    this.#last = now;
    const most = isKilled ? IN_HAND : 0;
    const wrong: string[] = [];
    const isEven = (what: string, of: (account: Account) => number) => {
      const more = of(now) - of(last);
      if (Math.abs(more) > most) wrong.push(`${more} more ${what}`);
    };
    isEven('packets received than verdicts', ({ unjudged }) => unjudged);
    isEven('packets denied than by rule', ({ denied, ruled }) => denied - ruled);
    isEven('connections of frontends than of backends', ({ accepted, served }) => accepted - served);
    for (const name of ['received', 'denied', 'accepted'] as const)
      if (now[name] < last[name]) wrong.push(`${name} has gone from ${last[name]} to ${now[name]}`);
    if (now.early > now.denied + now.firstSyns) wrong.push(`the kernel has dropped ${now.early}, of which verdicts know less`);
    const { received, unjudged, denied, early } = now;
    return {
      wrong,
      seen: `${received} received, ${unjudged} of them unjudged, ${denied} denied (${early} in the kernel since the last start)`,
    };
  }
}

/** Once it does not change any more. */
async function atRest(balancer: Balancer): Promise<Account> {
  let last = '';
  let same = 0;
  const stats = await balancer.settled('nothing more to come', (now) => {
    const text = JSON.stringify([accountOf(now), now.current_connections]);
    same = text === last ? same + 1 : 0;
    last = text;
    return same >= LOOKS;
  });
  return accountOf(stats);
}

function accountOf({ frontends, backends, lb4 }: Stats): Account {
  const { frames, verdicts, refusals = {}, fast_path: fastPath } = lb4;
  const connections = (rows: Stats['frontends']) => sum(Object.values(rows).map((row) => row.total_connections));
  return {
    received: frames.received,
    unjudged: frames.received - sum(Object.values(verdicts)),
    denied: verdicts['denied'] ?? 0,
    ruled: sum(Object.values(refusals).flatMap((rules) => Object.values(rules).map(({ refused }) => refused))),
    firstSyns: verdicts['dropFirstSyn'] ?? 0,
    accepted: connections(frontends),
    served: connections(backends),
    early: fastPath?.dropped ?? 0,
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((all, one) => all + one, 0);
}
