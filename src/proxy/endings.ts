/** The connection log's part of a worker: what it is told of connections that have ended, gathered for a moment. Off it costs a look at one flag. */
import { EachSecond } from '../each-second.ts';

/** What the connection log asks for. */
export interface EndingOrders {
  /** What part of the connections is told of, above 0 and at most 1: drawn by lot. */
  readonly share: number;
  /** Connections a second, of this worker. */
  readonly rate: number;
  /** Those that have reached no server, too. */
  readonly attempts: boolean;
}

/** Why a connection is over, as it stands in a line of the log. */
export const ENDS = [
  'fin',
  'reset-by-client',
  'reset-by-server',
  'idle',
  'killed',
  // Its frontend or server left the file.
  'gone',
  'stopped',
  // Without a server: there was none, no place for it, or no time …
  'refused',
  'no-proxy-header',
  // … and while it waited.
  'left-by-client',
] as const;
export type End = (typeof ENDS)[number];

/** A connection that has ended. */
export interface EndedConnection {
  /** "IP:PORT"; behind another proxy as that says. */
  readonly client: string;
  readonly to: string;
  /** What the server saw, and where it is; undefined: none was reached. */
  readonly via: string | undefined;
  readonly address: string | undefined;
  /** Indexes; of no server -1. */
  readonly frontend: number;
  readonly server: number;
  readonly end: End;
  /** In milliseconds since 1970. */
  readonly at: number;
  /** Milliseconds from its accept to then; undefined: the log was off. And since a byte passed, as far as sweeps know. */
  readonly ageMs: number | undefined;
  readonly quietMs: number;
  /** Payload bytes. */
  readonly bytesTx: number;
  readonly bytesRx: number;
}

/** Them, and how many connections are missing: beyond the rate, or for want of room. */
export interface Endings {
  readonly ended: readonly EndedConnection[];
  readonly overRate: number;
  readonly noRoom: number;
}

const GATHER_MS = 50;
/** Connections that wait to be told of. */
const CAPACITY = 4096;

export class EndingLog {
  readonly #tell: (endings: Endings) => void;
  #orders: EndingOrders | undefined;
  #ended: EndedConnection[] = [];
  #overRate = 0;
  #noRoom = 0;
  readonly #room = new EachSecond();
  #timer: NodeJS.Timeout | undefined;

  constructor(tell: (endings: Endings) => void) {
    this.#tell = tell;
  }

  get isOn(): boolean {
    return this.#orders !== undefined;
  }

  /** Undefined: it tells of nothing. */
  apply(orders: EndingOrders | undefined): void {
    this.#orders = orders;
  }

  /** @param hasServer it has reached one */
  wants(hasServer: boolean): boolean {
    if (this.#orders === undefined || !(hasServer || this.#orders.attempts)) return false;
    return this.#orders.share >= 1 || Math.random() < this.#orders.share;
  }

  /** @param describe asked for it only where it is told of */
  add(describe: () => EndedConnection): void {
    if (!this.#room.take(this.#orders?.rate ?? 0)) this.#overRate++;
    else if (this.#ended.length === CAPACITY) this.#noRoom++;
    else this.#ended.push(describe());
    this.#timer ??= setTimeout(() => this.flush(), GATHER_MS);
  }

  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#ended.length + this.#overRate + this.#noRoom === 0) return;
    this.#tell({ ended: this.#ended, overRate: this.#overRate, noRoom: this.#noRoom });
    this.#ended = [];
    this.#overRate = 0;
    this.#noRoom = 0;
  }
}
