/**
 * Where the control API is served: at the socket, and the port, that the configuration wants. Whatever is in the way, lb4 balances all the
 * same: the log says it once, and it is tried again.
 */
import { readFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { isDeepStrictEqual } from 'node:util';
import type { Control, Secret } from '../config/model.ts';
import { startApi } from '../control/api-server.ts';
import type { DashboardWriter } from '../control/dashboard-orders.ts';
import type { Orders } from '../control/orders.ts';
import { TokenGate } from '../control/token.ts';
import { FailureError, messageOf } from '../errors.ts';
import { defaultControlPath } from '../io/control-point.ts';
import type { Logger } from '../log.ts';
import { assertUnused, listenAt, type Place, pathOf } from './control-place.ts';

export interface ControlPortOptions {
  readonly orders: Orders;
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
}

/** How often it is looked whether all is there. */
const LOOK_MS = 5000;
const LEAST_TOKEN = 16;
/** So long an answer under way may take yet when lb4 ends, or somebody says nothing: nobody keeps a process from its end (cli/command-line.ts). */
const LINGER_MS = 1000;

/** One of them, as it is served. */
interface Serving {
  /** Undefined: that of the statistics serves it. */
  readonly server?: Server;
  readonly place?: Place;
  readonly token?: string;
}

const NOWHERE: Control = { socket: undefined, tcp: undefined, dashboard: undefined };

type Kind = keyof Control;

export class ControlPort {
  readonly #options: ControlPortOptions;
  readonly #serving = new Map<Kind, Serving>();
  /** Why one is not served; what was said once is not said again. */
  readonly #reasons = new Map<Kind, string>();
  readonly #gate: TokenGate;
  /** The socket, which somebody else had, was free at the last look. */
  #wasFree = false;
  #wanted = NOWHERE;
  #timer: NodeJS.Timeout | undefined;
  /** One after the other. */
  #last: Promise<void> = Promise.resolve();

  constructor(options: ControlPortOptions) {
    this.#options = options;
    this.#gate = new TokenGate((wrong) => options.log.warn(wrong, 'control: a wrong token was said; nothing has changed'));
  }

  /** For the server of the statistics, where the dashboard is. */
  get dashboard(): DashboardWriter {
    return { orders: this.#options.orders, token: () => this.#serving.get('dashboard')?.token, gate: this.#gate };
  }

  /** Serves where `control` says from now on. Never rejects. */
  move(control: Control): Promise<void> {
    return this.#inTurn(async () => {
      // A token's file may have another one by now.
      const isOther = (kind: Kind) => !isDeepStrictEqual(control[kind], this.#wanted[kind]);
      for (const kind of ['tcp', 'dashboard'] as const)
        if (isOther(kind) || control[kind]?.tokenFile !== undefined) await this.#close(kind);
      if (isOther('socket')) await this.#close('socket');
      this.#wanted = control;
      await this.#look();
      this.#timer ??= setInterval(() => void this.#inTurn(() => this.#look()), LOOK_MS).unref();
    });
  }

  /** Answers under way end within {@link LINGER_MS}, or are cut off then. */
  close(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    return this.#inTurn(async () => {
      this.#wanted = NOWHERE;
      const servers = [...this.#serving.values()].flatMap(({ server }) => server ?? []);
      await Promise.all([...this.#serving.keys()].map((kind) => this.#close(kind)));
      setTimeout(() => {
        for (const server of servers) server.closeAllConnections();
      }, LINGER_MS).unref();
    });
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    this.#last = this.#last.then(work).catch((error: unknown) => this.#options.log.error({ error: String(error) }, 'control'));
    return this.#last;
  }

  async #look(): Promise<void> {
    const { socket, tcp, dashboard } = this.#wanted;
    if (this.#serving.get('socket')?.place?.isThere() === false) await this.#close('socket');
    if (socket !== undefined && !this.#serving.has('socket'))
      await this.#try('socket', () => this.#openSocket(socket), (socket.path ?? defaultControlPath()) !== undefined);
    if (tcp !== undefined && !this.#serving.has('tcp')) await this.#try('tcp', () => this.#openTcp(tcp), true);
    if (dashboard !== undefined && !this.#serving.has('dashboard'))
      await this.#try('dashboard', async () => ({ token: tokenOf(dashboard) }), true);
  }

  /** @param isExpected false: this user has no default place, and the file names none */
  async #try(kind: Kind, open: () => Promise<Serving | undefined>, isExpected: boolean): Promise<void> {
    const { log } = this.#options;
    try {
      const serving = await open();
      if (serving === undefined) return;
      this.#serving.set(kind, serving);
      if (this.#reasons.delete(kind)) log.info({ at: kind }, 'control: orders are taken');
    } catch (error) {
      const reason = messageOf(error);
      if (this.#reasons.get(kind) === reason) return;
      this.#reasons.set(kind, reason);
      log[isExpected ? 'warn' : 'info']({ at: kind, reason }, 'control: no orders are taken; it is tried again');
    }
  }

  /**
   * Undefined: somebody else had it, and has just left it, perhaps to an lb4 that takes over from him. One that he has left for longer is
   * nobody's.
   */
  async #openSocket(socket: NonNullable<Control['socket']>): Promise<Serving | undefined> {
    const path = pathOf(socket);
    const wasFree = this.#wasFree;
    this.#wasFree = false;
    await assertUnused(path);
    this.#wasFree = this.#reasons.has('socket');
    if (this.#wasFree && !wasFree) return undefined;
    let place: Place | undefined;
    const server = await startApi(this.#api(), (one) => (place = listenAt(one, path, socket)));
    return { server, ...(place !== undefined && { place }) };
  }

  async #openTcp({ listen, ...secret }: NonNullable<Control['tcp']>): Promise<Serving> {
    return { server: await startApi(this.#api(tokenOf(secret)), (server) => server.listen(listen.port, listen.ip)) };
  }

  #api(text?: string) {
    const { orders, log } = this.#options;
    const token = text === undefined ? undefined : { text, gate: this.#gate };
    return { orders, token, failed: (error: Error) => log.error({ error: String(error) }, 'control') };
  }

  async #close(kind: Kind): Promise<void> {
    const serving = this.#serving.get(kind);
    if (serving === undefined) return;
    this.#serving.delete(kind);
    serving.place?.remove();
    serving.server?.close();
    serving.server?.closeIdleConnections();
  }
}

/** Throws a FailureError, or the system's. */
function tokenOf({ token: written, tokenFile: file }: Secret): string {
  if (written !== undefined) return written;
  const token = file === undefined ? '' : readFileSync(file, 'utf8').trim();
  if (token.length < LEAST_TOKEN)
    throw new FailureError(`${file}: the token has ${token.length} characters; needed: at least ${LEAST_TOKEN}`);
  return token;
}
