/** Asks now and then whether this host has changed under lb4, where nothing tells of it: a sysctl has no notice. */
import type { Logger } from '../log.ts';

/** A SYN that was lost meanwhile is sent again after so long: the client waits once, and no more. */
const EVERY_MS = 1000;

export interface HostChangesOptions {
  /** Cheap where nothing has changed; rejects with the reason when it cannot do what the host asks for. */
  readonly follow: () => Promise<void>;
  /** Does work on the data path in turn: never while a plan is being installed. */
  readonly inTurn: (work: () => Promise<void>) => Promise<void>;
  readonly log: Pick<Logger, 'info' | 'error'>;
}

export class HostChanges {
  readonly #options: HostChangesOptions;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;
  /** Why it could not be done, last time: said once. */
  #trouble = '';

  constructor(options: HostChangesOptions) {
    this.#options = options;
    this.#wait();
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  #wait(): void {
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => void this.#options.inTurn(() => this.#look()).then(() => this.#wait()), EVERY_MS);
  }

  async #look(): Promise<void> {
    if (this.#isStopped) return;
    let trouble = '';
    try {
      await this.#options.follow();
    } catch (error) {
      trouble = error instanceof Error ? error.message : String(error);
    }
    if (trouble === this.#trouble) return;
    this.#trouble = trouble;
    if (trouble === '') this.#options.log.info("this host's changes are followed again");
    else this.#options.log.error({ reason: trouble }, 'this host has changed, and cannot be followed: traffic may be lost');
  }
}
