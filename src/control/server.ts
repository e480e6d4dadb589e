/** The statistics port: /stats, /metrics, /healthz, and a page for people. */
import { once } from 'node:events';
import { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { Hono } from 'hono';
import { addDashboard } from './dashboard.ts';
import { type DashboardWriter, dashboardOrders, ORDER_PATH } from './dashboard-orders.ts';
import { Metrics } from './metrics.ts';
import { isOwnHost } from './own-host.ts';
import { boundReaders } from './readers.ts';
import { Rendered } from './rendered.ts';
import { type Source, summarize, type View } from './source.ts';
import { statsDocument } from './stats.ts';

export interface StatsServerOptions {
  readonly source: Source;
  /** Called at each request. */
  readonly view: () => View;
  /** lb4's own. */
  readonly version: string;
  /** Only this host reaches it: then a name in `Host` that is not its own is of a page from elsewhere (own-host.ts). */
  readonly isLocal: boolean;
  /** Takes what the dashboard orders; undefined: it is read-only. */
  readonly writer?: DashboardWriter | undefined;
  /** A request failed, or a connection could not be taken. */
  readonly failed?: (error: Error) => void;
}

export interface StatsServer {
  readonly port: number;
  /** Stops listening and ends open connections at once. */
  close(): Promise<void>;
}

const PATHS = ['/stats', '/metrics', '/healthz'];

const JSON_TYPE = { 'content-type': 'application/json' };

/** In ms: who does not finish a request is sent away. */
const LIMITS = { headersTimeout: 5000, requestTimeout: 10_000, keepAliveTimeout: 5000, connectionsCheckingInterval: 1000 };
/** In ms: so is who does not read the answer. */
const SILENCE = 20_000;
/** For clients of HTTP/1.0, which need not name a host. */
const HOST = 'lb4';
/** For those whose name leads here, and is not known. */
const NOT_HERE =
  'these statistics are for this host alone, and the name in Host is not its own: ask by an address, or as localhost; or [stats] address names one that others reach';

/** Listens on an IPv4 or IPv6 address; port 0 takes a free one. Rejects with the system's error when the port is taken. */
export async function startStatsServer(host: string, port: number, options: StatsServerOptions): Promise<StatsServer> {
  const failed = options.failed ?? (() => {});
  const { fetch } = routes(options, failed);
  const server = createAdaptorServer({ fetch, hostname: HOST, overrideGlobalObjects: false, serverOptions: LIMITS });
  if (!(server instanceof Server)) throw new TypeError('HTTP/1 was asked for');
  server.setTimeout(SILENCE);
  boundReaders(server);
  server.listen(port, host);
  await once(server, 'listening');
  // The system had no file or memory for one connection: nothing that should end a load balancer.
  server.on('error', failed);
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function routes({ source, view, version, isLocal, writer }: StatsServerOptions, failed: (error: Error) => void): Hono {
  const metrics = new Metrics(source, version);
  const stats = new Rendered(() => `${JSON.stringify(statsDocument(source, view(), writer?.token() !== undefined))}\n`);
  const scrape = new Rendered(() => metrics.text(view()));
  const app = new Hono();
  app.use(async (context, next) => {
    if (isLocal && !isOwnHost(context.req.header('host'))) return context.text(`lb4: ${NOT_HERE}\n`, 421);
    await next();
    context.header('cache-control', 'no-store');
  });
  app.get('/stats', async (context) => context.body(await stats.text(), 200, JSON_TYPE));
  app.get('/metrics', async (context) => context.body(await scrape.text(), 200, { 'content-type': metrics.contentType }));
  // A failed reload is no reason to send traffic elsewhere: the configuration before it goes on.
  app.get('/healthz', (context) => {
    const { status, ...more } = healthOf(view());
    const health = { status, mode: source.mode, ...more };
    return context.body(`${JSON.stringify(health)}\n`, status === 'ok' ? 200 : 503, JSON_TYPE);
  });
  const pages = addDashboard(app);
  app.route('/', dashboardOrders(writer, failed));
  app.all(ORDER_PATH, (context) => context.text('lb4: POST\n', 405, { allow: 'POST' }));
  for (const path of [...PATHS, ...pages]) app.all(path, (context) => context.text('lb4: GET or HEAD\n', 405, { allow: 'GET, HEAD' }));
  app.notFound((context) => context.text(`lb4: GET ${PATHS.join(', ')}, or / in a browser\n`, 404));
  app.onError((error, context) => {
    failed(error);
    return context.text('lb4: internal error\n', 500);
  });
  return app;
}

/** `broken`: something that lb4 has put on this host is missing, so that traffic may not pass; `reasons` says what. */
function healthOf({ stopping, reload, host }: View) {
  const reasons = host
    .filter(({ missing, serves }) => missing.length > 0 && !serves)
    .map(({ name, missing, reason }) => `${name}: ${summarize(missing)}${reason === undefined ? '' : `: ${reason}`}`);
  const status = stopping ? 'stopping' : reasons.length > 0 ? 'broken' : 'ok';
  return { status, last_reload_succeeded: reload.lastSucceeded, ...(reasons.length > 0 && { reasons }) };
}
