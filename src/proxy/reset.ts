import type { Socket } from 'node:net';

/** Destroys a connected socket with an RST, so that its peer does not mistake a broken connection for a finished one. */
export function reset(socket: Socket): void {
  if (socket.destroyed) return;
  const isShuttingDown = socket.writableEnded && !socket.writableFinished && socket.writableLength === 0;
  // libuv refuses a reset while a shutdown is under way, one turn of the loop (uv_tcp_close_reset), and Node 20 would then
  // lose the descriptor.
  if (isShuttingDown) socket.once('finish', () => reset(socket));
  else socket.resetAndDestroy();
}
