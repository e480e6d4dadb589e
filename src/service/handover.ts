/**
 * How one lb4 takes over from another, in lines of JSON over a unix socket of its user's alone (io/meeting-point.ts):
 *
 *     the one that runs (door.ts)                       the one that takes over (takeover.ts)
 *     hello: mode, pid                             ──►
 *                                                  ◄──  ask: mode, where to send listening sockets
 *     offer: health of the servers                 ──►  starts as far as it can: whatever fails until here changes nothing
 *                                                  ◄──  take
 *     packets: stops, keeps table and rules;
 *     connections: goes on accepting
 *     gone: what it has counted                    ──►  forwards, or accepts beside it
 *                                                  ◄──  runs
 *     ends; drains its connections first, and tells in a conversation of its own, with whoever is met there by then, what these count:
 *     counted                                      ──►
 *                                                  ◄──  noted
 *
 * From the offer on the one that runs changes nothing by itself: it all happens in turn (replan.ts).
 */
import type { Socket } from 'node:net';
import { createInterface, type Interface } from 'node:readline';
import { setImmediate } from 'node:timers/promises';
import type { Mode } from '../config/modes.ts';
import type { Description } from '../health/checker.ts';
import type { Book } from './books.ts';

/** Goes up with every change of the messages. */
export const PROTOCOL = 2;

/** Whoever says no more for so long has hung. */
export const PATIENCE = {
  /** A greeting, and the answer to it: nothing has to be done for them. */
  greeting: 5000,
  /** The offer, which waits for its turn: a tool of the firewall may take 20 s. */
  turn: 30_000,
  /** Until it says that it takes: so long nothing changes here. */
  start: 30_000,
  /** Until it has let go, or runs. */
  step: 30_000,
} as const;

export interface Hello {
  readonly say: 'hello';
  readonly protocol: number;
  readonly pid: number;
  readonly mode: Mode;
}

export interface Ask {
  readonly say: 'ask';
  readonly pid: number;
  readonly mode: Mode;
  /** False: nobody looks after the firewall rules from then on. */
  readonly rules: boolean;
  /** Where listening sockets are to be sent. */
  readonly inbox: string;
}

export interface Offer {
  readonly say: 'offer';
  /** By the server's key. */
  readonly health: readonly (readonly [key: string, Description])[];
  /** Where its statistics are; undefined: nowhere. */
  readonly stats?: string | undefined;
  /** So many listening sockets were sent. */
  readonly listeners: number;
}

export interface Gone {
  readonly say: 'gone';
  /** Proxy mode: what it has counted so far. */
  readonly counted?: Book | undefined;
}

/** Of one that has handed over and drains: what it has counted since it last told. */
export interface Afterthought {
  readonly say: 'counted';
  readonly counted: Book;
}

export type Message =
  | Hello
  | Ask
  | Offer
  | { readonly say: 'refused'; readonly reason: string }
  | { readonly say: 'take' }
  | Gone
  | Afterthought
  | { readonly say: 'noted' }
  | { readonly say: 'runs' };

type Named<Say extends Message['say']> = Extract<Message, { readonly say: Say }>;

/** One end of such a conversation. */
export class Channel {
  readonly #socket: Socket;
  readonly #lines: Interface;
  readonly #heard: Message[] = [];
  #isOver = false;
  #wake: () => void = () => {};

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('error', () => {}); // `close` follows
    this.#lines = createInterface({ input: socket });
    this.#lines.on('error', () => {});
    this.#lines.on('line', (line) => {
      this.#heard.push(messageIn(line));
      this.#wake();
    });
    for (const end of ['end', 'close'])
      socket.on(end, () => {
        this.#isOver = true;
        this.#wake();
      });
  }

  /** Whether the other end is still there, by all that has arrived. */
  async isOpen(): Promise<boolean> {
    // Whoever gives up right after a message has its end read after it.
    await setImmediate();
    await setImmediate();
    return !this.#isOver;
  }

  tell(message: Message): void {
    this.#socket.write(`${JSON.stringify(message)}\n`);
  }

  /** The next message, where it is one of `says`; else, or where none comes for `ms`, undefined, and nothing more is expected. */
  async next<Say extends Message['say']>(ms: number, ...says: readonly Say[]): Promise<Named<Say> | undefined> {
    const message = await this.#next(ms);
    if (message !== undefined && (says as readonly string[]).includes(message.say)) return message as Named<Say>;
    this.end();
    return undefined;
  }

  /** What was told is still sent. */
  end(): void {
    this.#isOver = true;
    this.#wake();
    // Not `end`: one that hangs would never close its half.
    this.#socket.destroySoon();
  }

  async #next(ms: number): Promise<Message | undefined> {
    if (this.#heard.length === 0 && !this.#isOver) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        timer = setTimeout(resolve, ms);
      });
      clearTimeout(timer);
    }
    return this.#heard.shift();
  }
}

/** What no version of lb4 says is `refused`: whoever hears it goes no further. */
function messageIn(line: string): Message {
  try {
    const message: unknown = JSON.parse(line);
    if (typeof message === 'object' && message !== null) return message as Message;
  } catch {
    // None of ours.
  }
  return { say: 'refused', reason: 'it speaks another language' };
}
