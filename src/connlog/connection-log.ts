/**
 * The connection log: a line for each connection that has ended, as far as its rate allows, to where the file says. It ends or stops nothing:
 * what cannot be written is lost and counted, and lb4's own log says so once, and when lines are written again.
 */
import { EachSecond } from '../each-second.ts';
import type { Logger } from '../log.ts';
import { UdpDatagrams, UnixDatagrams } from './datagrams.ts';
import type { Destination } from './destination.ts';
import { LogFile } from './file.ts';
import { type Ended, type Fields, type Format, fieldsOf, journalEntry, render, timed } from './line.ts';
import { localHeader, remoteHeader } from './syslog.ts';

/** Where lines go. */
export type Target =
  | { readonly to: 'file'; readonly path: string }
  | { readonly to: 'journal' }
  | { readonly to: 'syslog'; readonly path: string }
  | { readonly to: 'syslog'; readonly address: { readonly ip: string; readonly port: number; readonly text: string } };

export interface ConnectionLogOptions {
  readonly target: Target;
  readonly format: Format;
  /** Lines a second. */
  readonly rate: number;
}

/** Connections that have no line though they were drawn. */
export interface LeftOut {
  /** Beyond the rate. */
  readonly overRate: number;
  /** There was no room for them on the way. */
  readonly noRoom: number;
}

export interface ConnectionLogCounters extends LeftOut {
  /** Handed over, those of them that were lost included. */
  readonly lines: number;
  readonly lost: number;
}

const JOURNAL = '/run/systemd/journal/socket';
const LOOK_MS = 1000;
/** Those that were left out are told of so often. */
const TELL_MS = 60_000;
/** What waits at the end is given so long to be written. */
const LAST_MS = 1000;

export class ConnectionLog {
  readonly #log: Pick<Logger, 'info' | 'warn' | 'error'>;
  readonly #journal: string;
  #options: ConnectionLogOptions | undefined;
  #destination: Destination | undefined;
  #timer: NodeJS.Timeout | undefined;
  #lines = 0;
  #overRate = 0;
  #noRoom = 0;
  /** Of destinations that are no more. */
  #lostBefore = 0;
  readonly #room = new EachSecond();
  /** Left out, and not told of yet; when that was last done. */
  #untold = 0;
  #toldAt = Number.NEGATIVE_INFINITY;
  /** Lines that were lost when that was told; undefined: all is well. */
  #lostAt: number | undefined;
  #lostSeen = 0;

  /** @param journal where its socket is */
  constructor(log: Pick<Logger, 'info' | 'warn' | 'error'>, journal = JOURNAL) {
    this.#log = log;
    this.#journal = journal;
  }

  /** Writes as they say from now on; undefined: it is off. */
  apply(options: ConnectionLogOptions | undefined): void {
    const isSame = JSON.stringify(options?.target) === JSON.stringify(this.#options?.target);
    if (!isSame) this.close();
    this.#options = options;
    if (isSame || options === undefined) return;
    this.#destination = this.#open(options.target);
    this.#look();
    // Alone it keeps no process alive.
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref();
  }

  /** The file may have been moved away. */
  reopen(): void {
    this.#destination?.reopen?.();
  }

  /** Undefined: it was never on. */
  get counters(): ConnectionLogCounters | undefined {
    const isNew = this.#options === undefined && this.#lines === 0 && this.#lostBefore === 0;
    return isNew ? undefined : { lines: this.#lines, overRate: this.#overRate, noRoom: this.#noRoom, lost: this.#lost };
  }

  /** @param left connections that others have left out meanwhile */
  take(ended: readonly Ended[], left: LeftOut): void {
    if (this.#destination === undefined) return;
    this.#noRoom += left.noRoom;
    this.#leaveOut(left.overRate);
    this.#untold += left.noRoom;
    for (const one of ended) {
      if (this.#room.take(this.#options?.rate ?? 0)) this.#write(one.at, fieldsOf(one));
      else this.#leaveOut(1);
    }
  }

  /** So many end at once and without a line each, since lb4 stops. */
  tellStopped(connections: number): void {
    this.#write(Date.now(), { not_logged: connections, end: 'stopped' });
  }

  /** Writes what waits. Whatever ends later is not told of. */
  close(): void {
    const destination = this.#destination;
    if (destination === undefined) return;
    clearInterval(this.#timer);
    this.#toldAt = Number.NEGATIVE_INFINITY;
    this.#look();
    destination.close(LAST_MS);
    this.#lostBefore += destination.lost;
    this.#destination = undefined;
    this.#lostAt = undefined;
  }

  get #lost(): number {
    return this.#lostBefore + (this.#destination?.lost ?? 0);
  }

  #open(target: Target): Destination {
    if (target.to === 'file') return new LogFile(target.path);
    if (target.to === 'journal') return new UnixDatagrams(this.#journal);
    return 'path' in target ? new UnixDatagrams(target.path) : new UdpDatagrams(target.address);
  }

  #leaveOut(connections: number): void {
    this.#overRate += connections;
    this.#untold += connections;
  }

  #write(at: number, fields: Fields): void {
    if (this.#options === undefined) return;
    const { target, format } = this.#options;
    this.#lines++;
    if (target.to === 'journal') this.#destination?.write(journalEntry(fields));
    else if (target.to === 'file') this.#destination?.write(render(timed(at, fields), format));
    else this.#destination?.write(('path' in target ? localHeader(at) : remoteHeader(at)) + render(fields, format));
  }

  #look(): void {
    this.#destination?.look?.();
    this.#tellLeftOut();
    this.#tellTrouble();
  }

  /** In the log itself, too: whoever counts its lines must know. */
  #tellLeftOut(): void {
    const now = performance.now();
    if (this.#untold === 0 || now - this.#toldAt < TELL_MS) return;
    this.#toldAt = now;
    this.#write(Date.now(), { not_logged: this.#untold });
    this.#log.warn({ connections: this.#untold }, 'connections are not in the connection log: more have ended than it may have lines');
    this.#untold = 0;
  }

  #tellTrouble(): void {
    const lost = this.#lost;
    const trouble = this.#destination?.trouble;
    const to = this.#destination?.name;
    if (trouble !== undefined && this.#lostAt === undefined) {
      this.#lostAt = this.#lostSeen;
      this.#log.error({ to, reason: trouble }, 'the connection log cannot be written: its lines are lost');
    } else if (trouble === undefined && this.#lostAt !== undefined && lost === this.#lostSeen) {
      this.#log.info({ to, lost: lost - this.#lostAt }, 'the connection log is written again');
      this.#lostAt = undefined;
    }
    this.#lostSeen = lost;
  }
}
