/**
 * Where the control API is served: at the socket, and the port, that the configuration wants. Whatever is in the way, lb4 balances all the
 * same: the log says it once, and it is tried again.
 */
import { readFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { isDeepStrictEqual } from 'node:util';
import type { Control } from '../config/model.ts';
import { startApi } from '../control/api-server.ts';
import type { Orders } from '../control/orders.ts';
import { FailureError, messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { assertUnused, listenAt, type Place, pathOf } from './control-place.ts';

export interface ControlPortOptions {
  readonly orders: Orders;
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
}

/** How often it is looked whether all is there. */
const LOOK_MS = 5000;
const LEAST_TOKEN = 16;

/** One of the two, as it is served. */
interface Serving {
  readonly server: Server;
  readonly place?: Place;
}

type Kind = 'socket' | 'tcp';

export class ControlPort {
  readonly #options: ControlPortOptions;
  readonly #serving = new Map<Kind, Serving>();
  /** Why one is not served; what was said once is not said again. */
  readonly #reasons = new Map<Kind, string>();
  #wanted: Control = { socket: undefined, tcp: undefined };
  #timer: NodeJS.Timeout | undefined;
  /** One after the other. */
  #last: Promise<void> = Promise.resolve();

  constructor(options: ControlPortOptions) {
    this.#options = options;
  }

  /** Serves where `control` says from now on. Never rejects. */
  move(control: Control): Promise<void> {
    return this.#inTurn(async () => {
      // A token's file may have another one by now.
      if (!isDeepStrictEqual(control.tcp, this.#wanted.tcp) || control.tcp?.tokenFile !== undefined) await this.#close('tcp');
      if (!isDeepStrictEqual(control.socket, this.#wanted.socket)) await this.#close('socket');
      this.#wanted = control;
      await this.#look();
      this.#timer ??= setInterval(() => void this.#inTurn(() => this.#look()), LOOK_MS).unref();
    });
  }

  /** Answers under way end. */
  close(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    return this.#inTurn(async () => {
      this.#wanted = { socket: undefined, tcp: undefined };
      await Promise.all([this.#close('socket'), this.#close('tcp')]);
    });
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    this.#last = this.#last.then(work).catch((error: unknown) => this.#options.log.error({ error: String(error) }, 'control'));
    return this.#last;
  }

  async #look(): Promise<void> {
    const { socket, tcp } = this.#wanted;
    if (this.#serving.get('socket')?.place?.isThere() === false) await this.#close('socket');
    if (socket !== undefined && !this.#serving.has('socket'))
      await this.#try('socket', () => this.#openSocket(socket), socket.path !== undefined);
    if (tcp !== undefined && !this.#serving.has('tcp')) await this.#try('tcp', () => this.#openTcp(tcp), true);
  }

  /** @param isAskedFor the file says where: else another lb4 may have the default, and that is no fault */
  async #try(kind: Kind, open: () => Promise<Serving>, isAskedFor: boolean): Promise<void> {
    const { log } = this.#options;
    try {
      this.#serving.set(kind, await open());
      if (this.#reasons.delete(kind)) log.info({ at: kind }, 'control: orders are taken');
    } catch (error) {
      const reason = messageOf(error);
      if (this.#reasons.get(kind) === reason) return;
      this.#reasons.set(kind, reason);
      log[isAskedFor ? 'warn' : 'info']({ at: kind, reason }, 'control: no orders are taken; it is tried again');
    }
  }

  async #openSocket(socket: NonNullable<Control['socket']>): Promise<Serving> {
    const path = pathOf(socket);
    await assertUnused(path);
    let place: Place | undefined;
    const server = await startApi(this.#api(), (one) => (place = listenAt(one, path, socket)));
    return { server, ...(place !== undefined && { place }) };
  }

  async #openTcp({ listen, token, tokenFile }: NonNullable<Control['tcp']>): Promise<Serving> {
    const secret = token ?? tokenIn(tokenFile);
    return { server: await startApi(this.#api(secret), (server) => server.listen(listen.port, listen.ip)) };
  }

  #api(token?: string) {
    const { orders, log } = this.#options;
    return { orders, token, failed: (error: Error) => log.error({ error: String(error) }, 'control') };
  }

  async #close(kind: Kind): Promise<void> {
    const serving = this.#serving.get(kind);
    if (serving === undefined) return;
    this.#serving.delete(kind);
    serving.place?.remove();
    serving.server.close();
    serving.server.closeIdleConnections();
  }
}

function tokenIn(file: string | undefined): string {
  const token = file === undefined ? '' : readFileSync(file, 'utf8').trim();
  if (token.length < LEAST_TOKEN)
    throw new FailureError(`${file}: the token has ${token.length} characters; needed: at least ${LEAST_TOKEN}`);
  return token;
}
