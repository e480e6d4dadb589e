/** The statistics port: where the configuration wants it, and nowhere without one. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { isLoopback } from '../config/address.ts';
import type { Address } from '../config/model.ts';
import { type StatsServer, type StatsServerOptions, startStatsServer } from '../control/server.ts';

/** Rejects with the system's error where nothing can be served at `listen`. */
export async function assertFree(listen: Address | undefined): Promise<void> {
  if (listen === undefined) return;
  const server = createServer();
  server.listen(listen.port, listen.ip);
  try {
    await once(server, 'listening');
    server.close();
    await once(server, 'close');
  } catch (error) {
    throw named(error);
  }
}

/** With the key that it comes from. */
function named(error: unknown): Error {
  return Object.assign(error as Error, { key: ['stats', 'port'] });
}

export class StatsPort {
  readonly #options: () => Omit<StatsServerOptions, 'isLocal'>;
  #server: StatsServer | undefined;
  #listen: Address | undefined;

  /** @param options asked whenever it begins to serve */
  constructor(options: () => Omit<StatsServerOptions, 'isLocal'>) {
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
      this.#server = await startStatsServer(listen.ip, listen.port, { ...this.#options(), isLocal: isLoopback(listen) });
    } catch (error) {
      throw named(error);
    }
    this.#listen = listen;
  }
}
