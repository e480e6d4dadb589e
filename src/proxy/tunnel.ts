/**
 * An established connection's bytes, both ways: back-pressure, half-close, counters, silence.
 *
 * Plain `data` and `write`. Reading into one buffer (net's `onread`) and copying out of it spares an allocation of 64 KB a read, yet
 * measured little: 17.1 instead of 18.7 µs of processor time a request on kept connections, 161 instead of 155 on new ones.
 */
import type { Socket } from 'node:net';
import type { Context } from './context.ts';
import { RX, TX } from './memory.ts';

/** One side as the sweep sees it. */
class Side {
  readonly socket: Socket;
  /** A byte came from it, or was taken by it, since the last sweep: a store is all that a chunk pays for timeouts. */
  active = true;
  /** Bytes that came from it. */
  carried = 0;
  /** When a sweep last found it active, or out of turn. */
  #since = 0;

  constructor(socket: Socket) {
    this.socket = socket;
  }

  /** Whether it was silent for `timeoutMs` (0: no limit) and it is up to it to break the silence. */
  isIdle(now: number, timeoutMs: number): boolean {
    if (this.active || !this.#isDue()) this.#since = now;
    this.active = false;
    return timeoutMs > 0 && now - this.#since >= timeoutMs;
  }

  /** At the last sweep, or since: to a second or so. */
  idleMs(now: number): number {
    return this.active || this.#since === 0 ? 0 : now - this.#since;
  }

  /** A side that has ended need only take bytes; one that is not read, as the other is slow, need do nothing. */
  #isDue(): boolean {
    const { readableEnded, writableLength } = this.socket;
    return writableLength > 0 || (!readableEnded && !this.socket.isPaused());
  }
}

export class Tunnel {
  readonly #client: Side;
  readonly #server: Side;
  readonly #counters: Float64Array;
  readonly #frontendRow: number;
  readonly #serverRow: number;

  /** Both sockets connected; the client is paused, the server has not been read. The rows are those of the counters. */
  constructor(context: Context, client: Socket, server: Socket, frontendRow: number, serverRow: number) {
    this.#client = new Side(client);
    this.#server = new Side(server);
    this.#counters = context.counters;
    this.#frontendRow = frontendRow;
    this.#serverRow = serverRow;
    this.#join(this.#client, this.#server, TX);
    this.#join(this.#server, this.#client, RX);
  }

  /**
   * Whether a side has been silent for too long. Bytes taken count like bytes sent, as in HAProxy: a download goes on without a
   * word from its client. After one side's FIN only the other's silence counts. Called at each sweep, which also measures:
   * an idle connection is found up to two sweeps late, never early.
   */
  isIdle(now: number, clientTimeoutMs: number, serverTimeoutMs: number): boolean {
    const isClientIdle = this.#client.isIdle(now, clientTimeoutMs);
    return this.#server.isIdle(now, serverTimeoutMs) || isClientIdle;
  }

  /** Milliseconds since a byte passed, as far as sweeps know. */
  idleMs(now: number): number {
    return Math.min(this.#client.idleMs(now), this.#server.idleMs(now));
  }

  /** Bytes from the client so far, and from the server. */
  get carried(): { readonly tx: number; readonly rx: number } {
    return { tx: this.#client.carried, rx: this.#server.carried };
  }

  #join(from: Side, to: Side, column: number): void {
    const source = from.socket;
    const sink = to.socket;
    const counters = this.#counters;
    const frontend = this.#frontendRow + column;
    const server = this.#serverRow + column;
    source.on('data', (chunk: Buffer) => {
      from.active = true;
      from.carried += chunk.length;
      counters[frontend] += chunk.length;
      counters[server] += chunk.length;
      if (sink.write(chunk)) to.active = true;
      else source.pause();
    });
    sink.on('drain', () => {
      to.active = true;
      source.resume();
    });
    if (source.readableEnded) sink.end();
    else source.on('end', () => sink.end());
    source.resume();
  }
}
