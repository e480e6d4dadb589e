/** The statistics port: where the configuration wants it, and nowhere without one. */
import type { Address } from '../config/model.ts';
import { type StatsServer, type StatsServerOptions, startStatsServer } from '../control/server.ts';

export class StatsPort {
  readonly #options: () => StatsServerOptions;
  #server: StatsServer | undefined;
  #listen: Address | undefined;

  /** @param options asked whenever it begins to serve */
  constructor(options: () => StatsServerOptions) {
    this.#options = options;
  }

  /** Serves at `listen` from now on; undefined: nowhere. Rejects with the system's error, and then serves where it did. */
  async move(listen: Address | undefined): Promise<void> {
    if (listen?.text === this.#listen?.text) return;
    const last = this.#listen;
    // Closed first: the old address may cover the new one, 0.0.0.0:7000 and 127.0.0.1:7000.
    await this.close();
    try {
      await this.#open(listen);
    } catch (error) {
      await this.#open(last).catch(this.#options().failed);
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#server?.close();
    this.#server = undefined;
    this.#listen = undefined;
  }

  async #open(listen: Address | undefined): Promise<void> {
    if (listen === undefined) return;
    try {
      this.#server = await startStatsServer(listen.ip, listen.port, this.#options());
    } catch (error) {
      throw Object.assign(error as Error, { key: ['stats', 'port'] });
    }
    this.#listen = listen;
  }
}
