/** A running lb4 that takes orders at a socket of its own, in any mode, and whoever gives them. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Listing } from '../../src/control/listing.ts';
import { answers } from './answers.ts';
import { LB4, type Mode } from './balancer.ts';
import { Live, type Wanted } from './live.ts';
import type { RunResult } from './processes.ts';
import { NOTHING, traces } from './traces.ts';
import { waitUntil } from './wait.ts';

/** A running lb4, and whoever gives it orders. */
export class Operated {
  readonly live: Live;
  readonly socket: string;
  readonly #before: ReturnType<typeof traces>;

  private constructor(live: Live, before: ReturnType<typeof traces>) {
    this.live = live;
    this.socket = socketOf(live);
    this.#before = before;
  }

  static async start(mode: Mode, wanted: Wanted = {}): Promise<Operated> {
    const live = await Live.start(mode);
    // With a socket of its own: others run beside it.
    const before = { ...NOTHING, processes: traces(live.lab.balancer).processes };
    await live.reload(wantedIn(live, wanted));
    await waitUntil(() => existsSync(socketOf(live)), { what: 'the socket' });
    return new Operated(live, before);
  }

  run(...words: string[]): Promise<RunResult> {
    return this.live.lab.balancer.run(LB4, ...words, '--control', this.socket);
  }

  /** As scripts do: by the API. */
  async get<T>(path: string, ...options: string[]): Promise<T> {
    const { code, stdout, stderr } = await this.live.lab.balancer.run(
      'curl',
      '-sS',
      '--unix-socket',
      this.socket,
      ...options,
      `http://lb4${path}`,
    );
    expect(code, stderr).toBe(0);
    return JSON.parse(stdout) as T;
  }

  reload(wanted: Wanted): Promise<void> {
    return this.live.reload(wantedIn(this.live, wanted));
  }

  async server(name: string): Promise<Listing['backends'][number]['servers'][number] | undefined> {
    const { backends } = await this.get<Listing>('/v1/servers');
    return backends
      .flatMap((backend) => backend.servers.map((one) => ({ ...one, name: `${backend.name}/${one.name}` })))
      .find((one) => one.name === name);
  }

  /** Who answers: from ports of the laboratory's own choice, which hash alike in every run. By the kernel's, one in eighty runs never met the server of weight 1 beside one of 4. */
  async answering(): Promise<string[]> {
    return [...new Set(await answers(this.live.lab.client, this.live.vip, 20))].toSorted();
  }

  /** It ends, and the host is as it was. */
  async end(): Promise<void> {
    expect((await this.live.balancer.stop()).code).toBe(0);
    expect(existsSync(this.socket)).toBe(false);
    expect({ ...traces(this.live.lab.balancer), processes: [] }).toEqual({ ...this.#before, processes: [] });
  }
}

function socketOf(live: Live): string {
  return join(live.lab.directory, 'control', 'control.sock');
}

export function wantedIn(live: Live, wanted: Wanted): Wanted {
  return { ...wanted, more: `[control]\npath = "${socketOf(live)}"\n${wanted.more ?? ''}` };
}
