/** What somebody who forwards has answered, a thread or a process, and who waits for more of it. */

import type { Endings } from '../forward/endings.ts';
import type { Signal } from '../forward/signals.ts';
import type { SynFlood } from '../forward/syn-guard.ts';
import type { FromWorker } from './messages.ts';

/** Who hears what nobody has asked for. */
interface Heard {
  readonly signals: (signals: readonly Signal[]) => void;
  readonly flood: (flood: SynFlood) => void;
  readonly ended: (endings: Endings) => void;
}

export class Answers {
  readonly #heard: Heard;
  /** Who waits for settings to be applied, in the order in which they were sent. */
  readonly #applying: (() => void)[] = [];
  /** And for its being asked whether it lives. */
  readonly #asking: (() => void)[] = [];
  /** Undefined: not told yet. */
  #sources: ReadonlySet<number> | undefined;

  constructor(heard: Heard) {
    this.#heard = heard;
  }

  /** Takes note of one. */
  readonly take = (message: Readonly<FromWorker>): void => {
    if (message.type === 'applied') this.#applying.shift()?.();
    else if (message.type === 'alive') this.#asking.shift()?.();
    else if (message.type === 'sources') this.#sources = new Set(message.addresses);
    else if (message.type === 'signals') this.#heard.signals(message.servers);
    else if (message.type === 'flood') this.#heard.flood(message.flood);
    else if (message.type === 'ended') this.#heard.ended(message.endings);
  };

  /** Resolves when settings that are sent now have been applied, or whoever was to is gone. */
  applied(): Promise<void> {
    return new Promise((resolve) => this.#applying.push(resolve));
  }

  /** Resolves when a question that is asked now has been answered, or whoever was to is gone. */
  alive(): Promise<void> {
    return new Promise((resolve) => this.#asking.push(resolve));
  }

  /** As {@link Forwarder.usesSource} (thread.ts). */
  usesSource(address: number): boolean {
    return this.#sources?.has(address) ?? true;
  }

  /** Whoever waits waits in vain, since who was to answer hangs: they go on as if it were gone. Returns whether anybody waited. */
  giveUp(): boolean {
    const waiting = [...this.#applying.splice(0), ...this.#asking.splice(0)];
    for (const resolve of waiting) resolve();
    return waiting.length > 0;
  }

  /** Nobody answers any more; whoever comes next has told nothing yet. */
  end(): void {
    this.#sources = undefined;
    this.giveUp();
  }
}
