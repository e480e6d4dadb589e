/** A worker's view of a frontend: accepts its connections, as many as `maxconn` allows. */
import { createServer, type Server, type Socket } from 'node:net';
import { native } from '../io/native.ts';
import type { Context } from './context.ts';
import { reserve } from './memory.ts';
import type { FrontendPlan } from './plan.ts';
import { reset } from './reset.ts';
import { BACKLOG, SOCKET_OPTIONS } from './sockets.ts';

export class Frontend {
  plan: FrontendPlan;
  readonly #context: Context;
  readonly #accepted: (client: Socket, frontend: Frontend) => void;
  /** The main thread's descriptor; undefined: nothing is to be listened on. */
  #listenFd: number | undefined;
  #server: Server | undefined;
  /** Accepted when there was no room: it is not reset, and nothing further is accepted before it has found its place. */
  #held: Socket | undefined;

  constructor(context: Context, plan: FrontendPlan, accepted: (client: Socket, frontend: Frontend) => void) {
    this.#context = context;
    this.plan = plan;
    this.#accepted = accepted;
  }

  /** `listenFd` may be closed by the main thread once a later call has named another. */
  apply(plan: FrontendPlan, listenFd: number | undefined): void {
    this.plan = plan;
    if (listenFd !== this.#listenFd) this.#stopAccepting();
    this.#listenFd = listenFd;
    this.poll();
  }

  /** Whether a connection waits for room, so that it has to be polled. */
  get isWaitedFor(): boolean {
    return this.#held !== undefined;
  }

  /** A connection of this frontend is over. Where other workers wait too, all have the same chance at their next poll. */
  release(): void {
    const { accepted, holding } = this.#context.gauges;
    Atomics.sub(accepted, this.plan.index, 1);
    if (this.#held !== undefined && Atomics.load(holding, this.plan.index) === 1) this.poll();
  }

  /** Takes in the connection that waits if there is room, and then goes on accepting. Also mends a listener that failed. */
  poll(): void {
    const client = this.#held;
    if (client !== undefined) {
      if (!client.destroyed && !this.#hasRoom()) return;
      this.#letGo();
      if (!client.destroyed) this.#accepted(client, this);
    }
    if (this.#server === undefined && this.#held === undefined) this.#startAccepting();
  }

  /** Accepts nothing any more and resets the one that waits. */
  close(): void {
    this.#listenFd = undefined;
    this.#stopAccepting();
    const client = this.#held;
    if (client === undefined) return;
    this.#letGo();
    reset(client);
  }

  #hasRoom(): boolean {
    return reserve(this.#context.gauges.accepted, this.plan.index, this.plan.maxconn);
  }

  #accept(client: Socket): void {
    if (this.#hasRoom()) return this.#accepted(client, this);
    this.#held = client;
    Atomics.add(this.#context.gauges.holding, this.plan.index, 1);
    client.on('error', () => {}); // it may leave meanwhile
    this.#stopAccepting();
    this.#context.wait();
  }

  #letGo(): void {
    this.#held = undefined;
    Atomics.sub(this.#context.gauges.holding, this.plan.index, 1);
  }

  /** On a duplicate of the descriptor: libuv closes what it is given, and the queue of connections lives on. */
  #startAccepting(): void {
    if (this.#listenFd === undefined) return;
    let fd: number;
    try {
      fd = native().duplicateFd(this.#listenFd);
    } catch (error) {
      this.#warn(error as Error); // out of descriptors: the next sweep tries again
      return;
    }
    const server = createServer({ ...SOCKET_OPTIONS, pauseOnConnect: true }, (client) => this.#accept(client));
    server.on('error', (error) => {
      this.#warn(error);
      // EMFILE: libuv has accepted and closed what waited (uv__emfile_trick); the listener itself is as good as before.
      if (!server.listening && this.#server === server) this.#server = undefined;
    });
    server.listen({ fd, backlog: BACKLOG });
    this.#server = server;
  }

  #stopAccepting(): void {
    this.#server?.close();
    this.#server = undefined;
  }

  #warn(error: Error): void {
    this.#context.warn({ frontend: this.plan.name, error: error.message }, 'a connection could not be accepted');
  }
}
