/** `lb4 top`: the dashboard on a terminal. It asks as `lb4 list` and `lb4 status` do, and changes nothing. */
import { setTimeout } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Listing, Status } from '../control/listing.ts';
import { messageOf } from '../errors.ts';
import { ask, controlCommand, type Reach } from './control-client.ts';
import { withExamples } from './manual.ts';
import { ratesBetween } from './rates.ts';
import { Terminal } from './terminal.ts';
import { FIRST_VIEW, type Key, press, type TopView } from './top-keys.ts';
import { arranged, type Glance, glanceOf } from './top-rows.ts';
import { pageOf, type Screen, topLines, topText } from './top-screen.ts';

interface TopOptions extends Reach {
  readonly once?: boolean | undefined;
}

/** Between two answers; longer where an answer takes long: who looks is not to be what keeps lb4 busy. */
const INTERVAL_MS = 1000;
const SHARE = 10;

/** The command, for the program to add. */
export function topCommand(): Command {
  const command = controlCommand('top', 'watch the lb4 that runs: totals, rates, and servers in a table to sort and filter')
    .option('-n, --once', 'one table, with the rates of a second, and out; the same where standard output is no terminal')
    .action(async (options: TopOptions) => {
      const isScreen = process.stdout.isTTY && process.env['TERM'] !== 'dumb' && options.once !== true;
      await (isScreen ? watch(options) : printOnce(options));
    });
  return withExamples(command, {
    'lb4 top': 'until q; arrow keys move and sort, / filters',
    'lb4 top --once': 'one table, for a script or a report',
  });
}

/** What a running lb4 has answered, and when (performance.now). */
interface Answer {
  readonly status: Status;
  readonly listing: Listing;
  readonly at: number;
}

async function look(reach: Reach): Promise<Answer> {
  const [listing, status] = await Promise.all([ask<Listing>(reach, 'GET', '/v1/servers'), ask<Status>(reach, 'GET', '/v1/status')]);
  return { listing, status, at: performance.now() };
}

/** @param before undefined: no rate is known yet */
function glanceAt({ status, listing, at }: Answer, before: Answer | undefined): Glance {
  const seconds = before === undefined ? 1 : Math.max(0.001, (at - before.at) / 1000);
  return glanceOf(status, ratesBetween(before?.listing ?? listing, listing, seconds));
}

async function printOnce(reach: Reach): Promise<void> {
  const first = await look(reach);
  await setTimeout(INTERVAL_MS);
  process.stdout.write(topText(glanceAt(await look(reach), first)));
}

async function watch(reach: Reach): Promise<void> {
  // First: where nobody answers, that is told as every command tells it.
  const first = await look(reach);
  const watcher = new Watcher(first);
  try {
    await watcher.run(reach);
  } finally {
    watcher.close();
  }
}

class Watcher {
  readonly #terminal: Terminal;
  readonly #ending = new AbortController();
  #last: Answer;
  #glance: Glance;
  #notice: string | undefined;
  #view: TopView = FIRST_VIEW;

  constructor(first: Answer) {
    this.#last = first;
    this.#glance = glanceAt(first, undefined);
    const gone = () => this.#ending.abort();
    this.#terminal = new Terminal({ key: (key) => this.#press(key), changed: () => this.#draw(), gone });
  }

  /** Until it is to end. */
  async run({ control }: Reach): Promise<void> {
    const { signal } = this.#ending;
    for (let restMs = INTERVAL_MS; ; ) {
      this.#draw();
      await setTimeout(restMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      const began = performance.now();
      await this.#ask({ control, signal });
      restMs = Math.max(INTERVAL_MS, SHARE * (performance.now() - began));
    }
  }

  close(): void {
    this.#terminal.close();
  }

  async #ask(reach: Reach): Promise<void> {
    try {
      const answer = await look(reach);
      this.#glance = glanceAt(answer, this.#last);
      this.#last = answer;
      this.#notice = undefined;
    } catch (error) {
      const since = Math.round((performance.now() - this.#last.at) / 1000);
      this.#notice = `no answer for ${since} s, trying again: ${messageOf(error)}`;
    }
  }

  #press(key: Key): void {
    const { filter, column, isDown } = this.#view;
    const rows = arranged(this.#glance.rows, filter, column, isDown);
    const view = press(this.#view, key, rows, pageOf(this.#glance, this.#screen(), this.#notice));
    if (view === undefined) return this.#ending.abort();
    this.#view = view;
    this.#draw();
  }

  #draw(): void {
    this.#terminal.draw(topLines(this.#glance, this.#view, this.#screen(), this.#notice));
  }

  #screen(): Screen {
    return { ...this.#terminal.size, hasColours: process.env['NO_COLOR'] === undefined };
  }
}
