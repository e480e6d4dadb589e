/** An HTTP server of the control API, at a socket or a port. */
import { once } from 'node:events';
import { Server } from 'node:http';
import { createAdaptorServer } from '@hono/node-server';
import { type ApiOptions, apiOf } from './api.ts';
import { boundReaders } from './readers.ts';

/** In ms: who does not finish a request is sent away. */
const LIMITS = { headersTimeout: 5000, requestTimeout: 10_000, keepAliveTimeout: 5000, connectionsCheckingInterval: 1000 };
/** In ms: a reload may wait for the firewall's lock for so long; whoever takes longer to read the answer is sent away. */
const ANSWER_MS = 120_000;

/**
 * @param listen has the server listen, where it likes
 * Rejects with the system's error where it cannot.
 */
export async function startApi(options: ApiOptions, listen: (server: Server) => void): Promise<Server> {
  const { fetch } = apiOf(options);
  const server = createAdaptorServer({ fetch, hostname: 'lb4', overrideGlobalObjects: false, serverOptions: LIMITS });
  if (!(server instanceof Server)) throw new TypeError('HTTP/1 was asked for');
  server.setTimeout(ANSWER_MS);
  boundReaders(server, ANSWER_MS, ({ url = '' }) => url.startsWith('/v1/capture'));
  const listening = once(server, 'listening');
  // Where what follows fails first, nobody waits for it.
  listening.catch(() => {});
  try {
    listen(server);
    await listening;
  } catch (error) {
    server.close();
    throw error;
  }
  server.on('error', options.failed);
  return server;
}
