/** Paced downloads (/paced of backend.ts), and how long each of them has waited at most: told where a test fails, asserted nowhere. */
import { contentHash } from './content.ts';
import type { Namespace } from './lab.ts';
import type { Running } from './processes.ts';
import type { Progress, TransferReport } from './puller.ts';
import { PATIENCE, waitUntil } from './wait.ts';

export class Transfers {
  readonly #running: Running;
  readonly #count: number;
  readonly #stalls: string[] = [];

  private constructor(running: Running, count: number) {
    this.#running = running;
    this.#count = count;
  }

  /** So many downloads of `url` at once, all of them under way. */
  static async start(client: Namespace, count: number, url: string): Promise<Transfers> {
    const running = client.program('puller', `${count}`, url);
    await running.line(/^running/);
    return new Transfers(running, count);
  }

  /** Notes the longest time in which one of them has got nothing since the last note. */
  async stalled(when: string): Promise<void> {
    this.#stalls.push(`${(await this.#progress()).longest} ms ${when}`);
  }

  /** Waits until each has got so many bytes more. The longest waits are noted. */
  async goOn(bytes: number, when: string): Promise<void> {
    const { least: before } = await this.#progress();
    let longest = 0;
    const hasAll = async () => {
      const progress = await this.#progress();
      longest = Math.max(longest, progress.longest);
      return progress.least >= before + bytes;
    };
    await waitUntil(hasAll, { what: `transfers to go on ${when}`, every: 500 });
    this.#stalls.push(`${longest} ms ${when}`);
  }

  async #progress(): Promise<Progress> {
    const answer = this.#running.nextLine(/^\{"longest"/);
    this.#running.write('');
    return JSON.parse(await answer) as Progress;
  }

  /** Waits until all have got so many bytes of content, unspoilt. Returns the longest waits, for people; throws an error that tells them. */
  async arrive(bytes: number): Promise<string> {
    const { hashes, longest: last } = JSON.parse(await this.#running.line(/^\{"hashes"/, 2 * PATIENCE)) as TransferReport;
    const longest = `the longest waits: ${[...this.#stalls, `${last} ms from then on`].join(', ')}`;
    const [wanted, wrong] = [contentHash(bytes), [...new Set(hashes)].filter((hash) => hash !== contentHash(bytes))];
    if (wrong.length > 0 || hashes.length !== this.#count) throw new Error(`${wrong.join(', ')} for ${wanted}; ${longest}`);
    return longest;
  }
}
