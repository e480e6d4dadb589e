/** The statistics port. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';

/** Listens, and answers GET /stats with what `stats` returns then. Throws the system's error when the port is taken. */
export async function startStatsServer(host: string, port: number, stats: () => unknown): Promise<Server> {
  const server = createServer((request, response) => {
    const path = request.url?.split('?')[0];
    if (path !== '/stats') return void response.writeHead(404, { 'content-type': 'text/plain' }).end('lb4: GET /stats\n');
    if (request.method !== 'GET' && request.method !== 'HEAD') return void response.writeHead(405, { allow: 'GET, HEAD' }).end();
    response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-store' }).end(`${JSON.stringify(stats())}\n`);
  });
  server.listen(port, host);
  await once(server, 'listening');
  return server;
}
