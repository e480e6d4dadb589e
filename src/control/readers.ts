/**
 * The statistics port's clients, bounded: one that reads slowly, or not at all, holds a connection and perhaps megabytes. Whoever
 * comes is taken, and the oldest goes instead: turned away at the door would be whoever asks for /healthz. One answer at a time a connection.
 */
import type { IncomingMessage, RequestListener, Server } from 'node:http';
import type { Socket } from 'node:net';

/** At a time. */
const CONNECTIONS = 256;
/** Of these, such as leave much of their answer unread: it waits in this process's memory. */
const SLOW = 32;
/** In bytes, beyond what the kernel takes. */
const MUCH = 65_536;
/** In ms: the whole answer must be read by then, be the reader ever so lively. */
const ANSWER_MS = 30_000;

/**
 * Watches over all connections of `server`, and over its requests, from now on: what answers them is there already.
 * @param answerMs by when an answer must be written and read
 * @param isEndless whether the answer to a request has no end: its reader has that time for each part of it (the server's own timeout)
 */
export function boundReaders(server: Server, answerMs = ANSWER_MS, isEndless: (request: IncomingMessage) => boolean = () => false): void {
  const connections = new Set<Socket>();
  // In a Set the oldest comes first.
  const reading = new Set<Socket>();
  const answer = takeRequests(server);
  server.on('connection', (socket) => {
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
    if (connections.size > CONNECTIONS) oldestOfMost(connections)?.destroy();
  });
  server.on('request', (request, response) => {
    const { socket } = request;
    // A read may bring thousands of requests, whose answers would all be written at one stretch; no client of today sends a second one before it has the first answer.
    if (reading.has(socket)) return void socket.destroy();
    const timer = isEndless(request) ? undefined : setTimeout(() => socket.destroy(), answerMs);
    reading.add(socket);
    response.once('close', () => {
      clearTimeout(timer);
      reading.delete(socket);
    });
    if (reading.size > SLOW) cutSlow(reading);
    answer(request, response);
  });
}

/** What has answered requests of `server` until now, and is not asked by it any more. */
function takeRequests(server: Server): RequestListener {
  const listeners = server.listeners('request') as RequestListener[];
  server.removeAllListeners('request');
  return (request, response) => {
    for (const listener of listeners) listener.call(server, request, response);
  };
}

function cutSlow(reading: ReadonlySet<Socket>): void {
  const slow = [...reading].filter(({ writableLength }) => writableLength > MUCH);
  if (slow.length > SLOW) slow[0]?.destroy();
}

/** The oldest connection of the address that has most of them: one client does not push out another. */
function oldestOfMost(connections: ReadonlySet<Socket>): Socket | undefined {
  const byAddress = new Map<string | undefined, Socket[]>();
  for (const socket of connections) {
    const own = byAddress.get(socket.remoteAddress);
    if (own === undefined) byAddress.set(socket.remoteAddress, [socket]);
    else own.push(socket);
  }
  return [...byAddress.values()].reduce((most, own) => (own.length > most.length ? own : most))[0];
}
