/** Where another lb4 asks a running one to hand over (handover.ts). */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import type { Mode } from '../config/modes.ts';
import { messageOf } from '../errors.ts';
import { besidePoint, forgetDead, moveTo, sendListeners } from '../io/meeting-point.ts';
import { listenPrivately } from '../io/private-directory.ts';
import type { Logger } from '../log.ts';
import { type Book, isBook } from './books.ts';
import { type Ask, Channel, type Offer, PATIENCE, PROTOCOL } from './handover.ts';

export interface DoorOptions {
  readonly mode: Mode;
  readonly rules: boolean;
  readonly log: Logger;
  /** Goes through with it. Never rejects. */
  readonly handOver: (asker: Asker) => Promise<void>;
  /** Takes down what an lb4 from which this one took over has counted since. */
  readonly note: (counted: Book) => void;
}

/** The other lb4, as the one that runs sees it. */
export class Asker {
  readonly pid: number;
  readonly #channel: Channel;
  readonly #inbox: string;

  constructor(channel: Channel, { pid, inbox }: Ask) {
    this.#channel = channel;
    this.pid = pid;
    this.#inbox = inbox;
  }

  refuse(reason: string): void {
    this.#channel.tell({ say: 'refused', reason });
    this.#channel.end();
  }

  /** Resolves with whether it takes what is offered. Rejects with the system's error where sockets cannot be sent. */
  async takes(offer: Omit<Offer, 'say' | 'listeners'>, listeners: ReadonlyMap<string, number>): Promise<boolean> {
    sendListeners(this.#inbox, listeners);
    this.#channel.tell({ say: 'offer', listeners: listeners.size, ...offer });
    return (await this.#channel.next(PATIENCE.start, 'take')) !== undefined;
  }

  /** Whether it still waits: it may have given up right after it said that it takes. */
  isThere(): Promise<boolean> {
    return this.#channel.isOpen();
  }

  /** Tells it that it may begin, in proxy mode with all that is counted; resolves with whether it has. */
  async begins(counted: Book | undefined): Promise<boolean> {
    this.#channel.tell({ say: 'gone', counted });
    return (await this.#channel.next(PATIENCE.step, 'runs')) !== undefined;
  }

  end(): void {
    this.#channel.end();
  }
}

export class Door {
  readonly #server: Server;
  readonly #takeAway: () => void;
  readonly #guests = new Set<Socket>();

  private constructor(server: Server, takeAway: () => void) {
    this.#server = server;
    this.#takeAway = takeAway;
  }

  /** Opens it in the place of whoever was there. Undefined where that cannot be: the log says why, and lb4 does without. */
  static async open(pointNow: () => string | undefined, options: DoorOptions): Promise<Door | undefined> {
    try {
      const point = pointNow();
      if (point === undefined) throw new Error('XDG_RUNTIME_DIR is not set');
      forgetDead();
      const path = besidePoint(point);
      const server = createServer();
      listenPrivately(server, path);
      await once(server, 'listening');
      const door = new Door(server, moveTo(point, path));
      server.on('error', () => {}); // no descriptor for a guest, who is told nothing and waits in vain
      server.on('connection', (socket) => void door.#receive(socket, options));
      return door;
    } catch (error) {
      options.log.info({ reason: messageOf(error) }, 'no other lb4 can take over from this one');
      return undefined;
    }
  }

  close(): void {
    this.#takeAway();
    this.#server.close();
    for (const guest of this.#guests) guest.destroySoon();
  }

  async #receive(socket: Socket, { mode, rules, log, handOver, note }: DoorOptions): Promise<void> {
    this.#guests.add(socket);
    socket.once('close', () => this.#guests.delete(socket));
    const channel = new Channel(socket);
    channel.tell({ say: 'hello', protocol: PROTOCOL, pid: process.pid, mode });
    const ask = await channel.next(PATIENCE.greeting, 'ask', 'counted');
    if (ask === undefined) return;
    if (ask.say === 'counted') {
      if (isBook(ask.counted)) note(ask.counted);
      channel.tell({ say: 'noted' });
      return channel.end();
    }
    const asker = new Asker(channel, ask);
    if (rules && !ask.rules) return asker.refuse('it looks after the firewall rules, and --no-rules would leave them to nobody');
    log.info({ pid: ask.pid }, 'another lb4 asks to take over');
    await handOver(asker);
    asker.end();
  }
}
