/** Asks now and then whether this host has changed under lb4, where nothing tells of it: a sysctl has no notice. */

/** A SYN that was lost meanwhile is sent again after so long: the client waits once, and no more. */
const EVERY_MS = 1000;
/** After a failure: what failed will mostly fail again. */
const RETRY_MS = 10_000;

export interface HostChangesOptions {
  /** Cheap where nothing has changed. Rejects when it cannot do what the host asks for; the guard tells of that. Undefined: nothing to do. */
  readonly follow: (() => Promise<void>) | undefined;
  /** Does work on the data path in turn: never while a plan is being installed. */
  readonly inTurn: (work: () => Promise<void>) => Promise<void>;
}

export class HostChanges {
  readonly #options: HostChangesOptions;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(options: HostChangesOptions) {
    this.#options = options;
  }

  /** From now on. */
  start(): void {
    const { follow } = this.#options;
    if (follow !== undefined) this.#wait(EVERY_MS, follow);
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  #wait(milliseconds: number, follow: () => Promise<void>): void {
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => void this.#look(follow), milliseconds);
  }

  async #look(follow: () => Promise<void>): Promise<void> {
    let wait = EVERY_MS;
    await this.#options.inTurn(async () => {
      if (!this.#isStopped) await follow().catch(() => (wait = RETRY_MS));
    });
    this.#wait(wait, follow);
  }
}
