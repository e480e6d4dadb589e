/** Asks now and then whether this host has changed under lb4, where nothing tells of it: a sysctl has no notice. */

/** A SYN that was lost meanwhile is sent again after so long: the client waits once, and no more. */
const EVERY_MS = 1000;
/** After a failure: what failed will mostly fail again. */
const RETRY_MS = 10_000;

export interface HostChangesOptions {
  /** Cheap where nothing has changed. Rejects when it cannot do what the host asks for; the guard tells of that. */
  readonly follow: () => Promise<void>;
  /** Does work on the data path in turn: never while a plan is being installed. */
  readonly inTurn: (work: () => Promise<void>) => Promise<void>;
}

export class HostChanges {
  readonly #options: HostChangesOptions;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(options: HostChangesOptions) {
    this.#options = options;
    this.#wait(EVERY_MS);
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  #wait(milliseconds: number): void {
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => void this.#look(), milliseconds);
  }

  async #look(): Promise<void> {
    let wait = EVERY_MS;
    const { follow, inTurn } = this.#options;
    await inTurn(async () => {
      if (!this.#isStopped) await follow().catch(() => (wait = RETRY_MS));
    });
    this.#wait(wait);
  }
}
