/** Ends of TCP connections of the kernel's, led step by step. */
import { join } from 'node:path';
import { type Namespace, ROOT } from './lab.ts';
import { PYTHON, type Running } from './processes.ts';
import { PATIENCE } from './wait.ts';

/** Longer than peer.py waits. */
const LIMIT = PATIENCE + 5_000;

/** A namespace's peers: one program. */
export class Peers {
  readonly #running: Running;
  #count = 0;

  private constructor(running: Running) {
    this.#running = running;
  }

  static async start(namespace: Namespace): Promise<Peers> {
    const running = namespace.start([PYTHON, '-IS', join(ROOT, 'test/lab/peer.py')]);
    await running.line(/^ready/);
    return new Peers(running);
  }

  add(): Peer {
    return new Peer(this.#running, ++this.#count);
  }
}

/**
 * At most one listening socket and one connection. Every step waits for its end, 45 s at most; what fails throws an error with the
 * errno's name (`ECONNRESET`).
 */
export class Peer {
  readonly #running: Running;
  readonly #number: number;
  /** A command is given when the one before has been answered. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(running: Running, number: number) {
    this.#running = running;
    this.#number = number;
  }

  async #ask(...command: readonly (string | number | null)[]): Promise<unknown> {
    const before = this.#last;
    const answer = (async () => {
      await before.catch(() => undefined);
      const line = this.#running.nextLine(new RegExp(`^\\{"peer": ${this.#number},`), LIMIT);
      this.#running.write(JSON.stringify([this.#number, ...command]));
      const { ok, error } = JSON.parse(await line) as { ok?: unknown; error?: string };
      if (error !== undefined) throw new Error(`${command[0]}: ${error}`);
      return ok;
    })();
    this.#last = answer;
    return answer;
  }

  listen(port: number): Promise<unknown> {
    return this.#ask('listen', port);
  }

  /** Takes the next connection. Returns where it comes from. */
  async accept(): Promise<{ host: string; port: number }> {
    const [host, port] = (await this.#ask('accept')) as [string, number];
    return { host, port };
  }

  /** Connects from the port `local`; `isn` is the SYN's sequence number (the kernel's choice when left out; not 0). */
  connect(host: string, port: number, local: number, isn?: number): Promise<unknown> {
    return this.#ask('connect', host, port, local, isn ?? null);
  }

  /** The same with TCP Fast Open (RFC 7413): `text` goes in the SYN where the server's cookie is known. */
  fastOpen(host: string, port: number, local: number, text: string): Promise<unknown> {
    return this.#ask('fast_open', host, port, local, text);
  }

  send(text: string): Promise<unknown> {
    return this.#ask('send', text);
  }

  /** Sends, the last byte as urgent data (RFC 6093). */
  urgent(text: string): Promise<unknown> {
    return this.#ask('urgent', text);
  }

  /** Waits for the urgent byte, and takes it. */
  receiveUrgent(): Promise<string> {
    return this.#ask('receive_urgent') as Promise<string>;
  }

  /** Sends zeros until there is no more room, `limit` bytes at most. Returns how many. */
  fill(limit: number): Promise<number> {
    return this.#ask('fill', limit) as Promise<number>;
  }

  /** Receives `count` bytes, fewer when the other side has ended before. */
  receive(count: number): Promise<string> {
    return this.#ask('receive', count) as Promise<string>;
  }

  /** Receives until the other side has ended. */
  rest(): Promise<string> {
    return this.#ask('rest') as Promise<string>;
  }

  /** Sends `count` bytes (a multiple of 16) that {@link receivePattern} knows. */
  sendPattern(count: number): Promise<unknown> {
    return this.#ask('send_pattern', count);
  }

  /** Receives `count` bytes; whether they are those that were sent. */
  receivePattern(count: number): Promise<boolean> {
    return this.#ask('receive_pattern', count) as Promise<boolean>;
  }

  /** Says that it will send no more (shutdown(2), SHUT_WR). */
  end(): Promise<unknown> {
    return this.#ask('end');
  }

  /** Sends, and closes behind it at once: lb4 sees both within a moment, however busy the machine is. */
  finish(text: string): Promise<unknown> {
    return this.#ask('finish', text);
  }

  /** close(2): a reset where something was not read. */
  close(): Promise<unknown> {
    return this.#ask('close');
  }

  /** A reset (SO_LINGER of 0 seconds). */
  reset(): Promise<unknown> {
    return this.#ask('reset');
  }

  /** The connection is gone without a word, as after a power failure (TCP_REPAIR). */
  vanish(): Promise<unknown> {
    return this.#ask('vanish');
  }

  /** The sequence numbers of the next byte to send and to receive. */
  async sequences(): Promise<{ send: number; receive: number }> {
    const [send, receive] = (await this.#ask('sequences')) as [number, number];
    return { send, receive };
  }

  /** Probes the other side after so many silent seconds, and so often. */
  keepAlive(seconds: number): Promise<unknown> {
    return this.#ask('keep_alive', seconds);
  }
}
