/** An lb4 that takes over from the one that runs (handover.ts). */
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import type { Config } from '../config/model.ts';
import { isPacketMode, type Mode } from '../config/modes.ts';
import { messageOf, TakeoverError } from '../errors.ts';
import type { Description } from '../health/checker.ts';
import { besidePoint, Inbox, isPoint, packetPoint, proxyPoint } from '../io/meeting-point.ts';
import { isNamespaceFree, lockHolder } from '../io/namespace-lock.ts';
import type { Logger } from '../log.ts';
import { type Book, isBook } from './books.ts';
import { Channel, type Hello, type Offer, PATIENCE, PROTOCOL } from './handover.ts';

/** How often it is asked whether one that ends has ended. */
const LOOK_MS = 50;

export interface TakeoverOptions {
  readonly mode: Mode;
  readonly rules: boolean;
  readonly log: Logger;
  /** Somebody asks this one to stop: until it has taken, it takes nothing. */
  readonly isStopping: () => boolean;
}

/** Where an lb4 of this mode and file is met. */
export function pointFor(mode: Mode, { file }: Pick<Config, 'file'>): string | undefined {
  return isPacketMode(mode) ? packetPoint() : proxyPoint(file);
}

interface Met {
  readonly channel: Channel;
  readonly hello: Hello;
}

/** What a takeover is made of, once it is offered. */
interface Begun {
  readonly channel: Channel;
  readonly hello: Hello;
  readonly offer: Offer;
  readonly listeners: ReadonlyMap<string, number>;
  readonly point: string | undefined;
  readonly options: TakeoverOptions;
}

export class Takeover {
  /** Of the one that runs. */
  readonly pid: number;
  /** Its listening sockets, by address. Whoever takes them closes them. */
  readonly listeners: ReadonlyMap<string, number>;
  readonly #channel: Channel;
  readonly #offer: Offer;
  readonly #health: ReadonlyMap<string, Description>;
  readonly #options: TakeoverOptions;
  readonly #point: string | undefined;
  #counted: Book | undefined;
  #isTaken = false;
  #isOrphan = false;

  private constructor({ channel, hello, offer, listeners, point, options }: Begun) {
    this.#channel = channel;
    this.pid = hello.pid;
    this.#point = point;
    this.#options = options;
    this.#offer = offer;
    this.#health = new Map(offer.health);
    this.listeners = listeners;
  }

  /** Asks the one that runs. From now on it changes nothing, until this one takes, or ends. Throws TakeoverError where there can be none. */
  static async begin(
    config: Pick<Config, 'file'>,
    options: TakeoverOptions,
    point: string | undefined = pointFor(options.mode, config),
  ): Promise<Takeover> {
    const { mode, rules, log } = options;
    const found = await meet(point);
    if (found === undefined) throw await nobody(mode, config);
    const { channel, hello } = found;
    if (hello.mode !== mode) throw otherMode(hello, mode, channel);
    log.info({ pid: hello.pid }, 'taking over');
    const inbox = new Inbox(besidePoint(`${point}-inbox`));
    try {
      channel.tell({ say: 'ask', pid: process.pid, mode, rules, inbox: inbox.path });
      const answer = await channel.next(PATIENCE.turn, 'offer', 'refused');
      if (answer === undefined) throw new TakeoverError(`${nameOf(hello)} says no more: it goes on, or has just ended`);
      if (answer.say === 'refused') throw new TakeoverError(`${nameOf(hello)} goes on: ${answer.reason}`);
      const listeners = inbox.take();
      if (listeners.size !== answer.listeners) throw new TakeoverError(`${nameOf(hello)} goes on: its listening sockets did not arrive`);
      return new Takeover({ channel, hello, offer: answer, listeners, point, options });
    } catch (error) {
      channel.end();
      throw error;
    } finally {
      inbox.close();
    }
  }

  /** The one that ran has let go: nobody forwards packets any more. */
  get isTaken(): boolean {
    return this.#isTaken;
  }

  /** Where the one that runs has its statistics; it gives that up when this one takes. */
  get stats(): string | undefined {
    return this.#offer.stats;
  }

  /** Proxy mode: what the one that ran had counted when it let go. */
  get counted(): Book | undefined {
    return this.#counted;
  }

  /** What is known of a server; undefined: nothing. */
  health(key: string): Description | undefined {
    return this.#health.get(key);
  }

  /** Has it let go: from now on it is this one's part. Throws TakeoverError where it does not. */
  async take(): Promise<void> {
    if (this.#options.isStopping()) throw new TakeoverError(`asked to stop before it took over: ${nameOf(this)} goes on`);
    this.#channel.tell({ say: 'take' });
    const gone = await this.#channel.next(PATIENCE.step, 'gone');
    if (gone === undefined) await this.#outlive();
    if (gone?.counted !== undefined && isBook(gone.counted)) this.#counted = gone.counted;
    this.#isTaken = true;
  }

  /** It ended before it had let go: no table or rules may be left of it. */
  get isOrphan(): boolean {
    return this.#isOrphan;
  }

  /** Whether the one that ran still does, be it that it hangs. */
  async goesOn(): Promise<boolean> {
    return isPacketMode(this.#options.mode) ? lockHolder()?.pid === this.pid : isMet(this.#point);
  }

  /** It says no more. Throws TakeoverError where it is there all the same. */
  async #outlive(): Promise<void> {
    const { mode, log } = this.#options;
    if ((await isMet(this.#point)) || (isPacketMode(mode) && !(await isLeft())))
      throw new TakeoverError(`${nameOf(this)} does not let go: see its log`);
    log.warn({ pid: this.pid }, 'the lb4 that ran has ended before it let go: this one goes on as after its death');
    this.#isOrphan = true;
  }

  /** This one runs: the other one ends. */
  done(): void {
    this.#channel.tell({ say: 'runs' });
    this.#channel.end();
  }

  /** Nothing comes of it. */
  abandon(): void {
    this.#channel.end();
  }
}

/** One that waits at `point` ends as at a restart, and leaves what it can; resolves when another may start. Throws TakeoverError where it hangs. */
export async function dismiss(point: string): Promise<void> {
  const found = await greet(point);
  if (found === undefined) return;
  const { channel, hello } = found;
  channel.end();
  askToEnd(hello.pid);
  for (const until = performance.now() + PATIENCE.step; isPoint(point) || !(isPacketMode(hello.mode) ? isNamespaceFree() : true); ) {
    if (performance.now() > until) throw new TakeoverError(`${nameOf(hello)} was asked to end and does not: see its log`);
    await setTimeout(LOOK_MS);
  }
}

/** One that has just ended by itself need not be asked. */
function askToEnd(pid: number): void {
  try {
    process.kill(pid, 'SIGQUIT');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Undefined where nobody listens. Throws TakeoverError for one that does not answer, or speaks otherwise. */
export async function meet(point: string | undefined): Promise<Met | undefined> {
  const found = await greet(point);
  if (found === undefined || found.hello.protocol === PROTOCOL) return found;
  const { channel, hello } = found;
  channel.end();
  throw new TakeoverError(`${nameOf(hello)} hands over by version ${hello.protocol}, this one takes by version ${PROTOCOL}`);
}

/** Likewise, however it speaks. */
async function greet(point: string | undefined): Promise<Met | undefined> {
  if (!isPoint(point)) return undefined;
  const socket = connect(point);
  try {
    await once(socket, 'connect');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ECONNREFUSED' || code === 'ENOENT') return undefined; // it was killed, or has just ended
    throw new TakeoverError(`the lb4 that runs cannot be asked: ${messageOf(error)}`);
  }
  const channel = new Channel(socket);
  const hello = await channel.next(PATIENCE.greeting, 'hello');
  if (hello === undefined)
    throw new TakeoverError(`the lb4 that runs has not answered for ${PATIENCE.greeting / 1000} s: it stays as it is`);
  return { channel, hello };
}

/** Whether somebody is there, be it one that hangs. */
async function isMet(point: string | undefined): Promise<boolean> {
  try {
    const found = await meet(point);
    found?.channel.end();
    return found !== undefined;
  } catch {
    return true;
  }
}

/** Resolves with whether nobody forwards packets any more: who stops takes away its rules first. */
async function isLeft(): Promise<boolean> {
  for (const until = performance.now() + PATIENCE.step; performance.now() < until; await setTimeout(LOOK_MS))
    if (isNamespaceFree()) return true;
  return false;
}

/** Nobody of this kind; one of the other kind is named. */
async function nobody(mode: Mode, config: Pick<Config, 'file'>): Promise<TakeoverError> {
  const other = await meet(isPacketMode(mode) ? proxyPoint(config.file) : packetPoint()).catch(() => undefined);
  if (other !== undefined) return otherMode(other.hello, mode, other.channel);
  const whose = isPacketMode(mode) ? 'in this network namespace' : `with ${config.file}`;
  return new TakeoverError(`no lb4 runs ${whose} that could be taken over from: start without --takeover`);
}

function otherMode(hello: Hello, mode: Mode, channel: Channel): TakeoverError {
  channel.end();
  return new TakeoverError(`${nameOf(hello)} runs in mode ${hello.mode} and goes on: one in mode ${mode} cannot take over from it`);
}

function nameOf({ pid }: Pick<Hello, 'pid'>): string {
  return `the lb4 that runs (pid ${pid})`;
}
