/**
 * Ranks of GLB's tables (balance/glb-table.ts), kept for as long as a backend goes by them. Ranking takes 70 ms for 4 servers and seconds for 256: a
 * thread does it, before the plan that needs them is made. What changes later, states and health, needs no new ones.
 */
import { Worker } from 'node:worker_threads';
import { inRankOrder, type Rank, rankRows } from '../balance/index.ts';
import type { Backend, Config } from '../config/model.ts';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { RankJob } from './rank-worker.ts';

type Known = ReadonlyMap<string, Uint16Array>;

export class GlbRanks {
  readonly #log: Pick<Logger, 'warn'>;
  #known: Known = new Map();
  /** Of the configuration before: it stays in force where the one that was followed cannot be. */
  #last: Known = new Map();
  /** Of one that is about to be followed. */
  #ahead: Known = new Map();

  constructor(log: Pick<Logger, 'warn'>) {
    this.#log = log;
  }

  /** Ranks what `config` asks for and nobody knows, so that {@link follow} has nothing left to do. Undefined: there is no such thing. Never rejects. */
  prepare(config: Config): Promise<void> | undefined {
    const missing = [...jobsOf(config)].filter(([key]) => !this.#known.has(key));
    return missing.length === 0 ? undefined : this.#prepare(missing);
  }

  async #prepare(missing: readonly (readonly [string, RankJob])[]): Promise<void> {
    const made = await this.#rankAll(missing.map(([, job]) => job));
    this.#ahead = new Map(missing.map(([key], i) => [key, made[i]]));
  }

  /** Resolves once all that `config` asks for is ranked. Never rejects. */
  async follow(config: Config): Promise<void> {
    const wanted = jobsOf(config);
    const known = new Map([...this.#ahead, ...this.#known]);
    this.#ahead = new Map();
    const missing = [...wanted].filter(([key]) => !known.has(key));
    const kept = [...known].filter(([key]) => wanted.has(key));
    const made = missing.length === 0 ? [] : await this.#rankAll(missing.map(([, job]) => job));
    this.#last = this.#known;
    this.#known = new Map([...kept, ...missing.map(([key], i): [string, Uint16Array] => [key, made[i]])]);
  }

  /** What is known, or takes its time. */
  readonly rank: Rank = (seed, addresses) => {
    const key = keyOf({ seed, addresses });
    return this.#known.get(key) ?? this.#last.get(key) ?? rankRows(seed, addresses);
  };

  /** Where no thread can be had, here. */
  async #rankAll(jobs: readonly RankJob[]): Promise<readonly Uint16Array[]> {
    try {
      return await rankElsewhere(jobs);
    } catch (error) {
      this.#log.warn(
        { reason: messageOf(error) },
        "servers of GLB's tables are ranked without a thread of its own: traffic may wait for seconds",
      );
      return jobs.map(({ seed, addresses }) => rankRows(seed, addresses));
    }
  }
}

/** By their keys. */
function jobsOf({ backends }: Config): Map<string, RankJob> {
  return new Map(backends.flatMap(jobOf).map((job) => [keyOf(job), job]));
}

function jobOf({ glb, servers }: Backend): RankJob[] {
  const here = servers.filter(({ state }) => state !== 'inactive').map(({ addr }) => addr.ip);
  return glb === undefined || here.length === 0 ? [] : [{ seed: glb.seed, addresses: inRankOrder(here) }];
}

function keyOf({ seed, addresses }: RankJob): string {
  return `${seed.toLowerCase()} ${addresses.join(' ')}`;
}

function rankElsewhere(jobs: readonly RankJob[]): Promise<readonly Uint16Array[]> {
  return new Promise((resolve, reject) => {
    const made: Uint16Array[] = [];
    const worker = new Worker(new URL('../service/rank-worker.js', import.meta.url), { workerData: jobs, name: 'lb4-ranks' });
    worker.on('message', (ranks: Uint16Array) => made.push(ranks));
    worker.once('error', reject);
    worker.once('exit', (code) => (made.length === jobs.length ? resolve(made) : reject(new Error(`it ended with code ${code}`))));
  });
}
