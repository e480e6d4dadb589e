/** A worker's view of a frontend: accepts its connections, as many as `maxconn` and the process's descriptors allow. */
import { createServer, type Server, type Socket } from 'node:net';
import { reserve } from '../balance/index.ts';
import { native } from '../io/native.ts';
import type { Context } from './context.ts';
import { Gate } from './gate.ts';
import type { FrontendPlan } from './plan.ts';
import { reset } from './reset.ts';
import { BACKLOG, SOCKET_OPTIONS } from './sockets.ts';

export class FrontendListener {
  plan: FrontendPlan;
  /** Undefined: all may connect, and as they like. */
  gate: Gate | undefined;
  readonly #context: Context;
  readonly #accepted: (client: Socket, frontend: FrontendListener) => void;
  /** The main thread's descriptor; undefined: nothing is to be listened on. */
  #listenFd: number | undefined;
  #server: Server | undefined;
  /** Accepted when there was no room: it is not reset, and nothing further is accepted before it has found its place. */
  #held: Socket | undefined;

  constructor(context: Context, plan: FrontendPlan, accepted: (client: Socket, frontend: FrontendListener) => void) {
    this.#context = context;
    this.plan = plan;
    this.gate = this.#gateOf(plan);
    this.#accepted = accepted;
  }

  /** `listenFd` may be closed by the main thread once a later call has named another. */
  apply(plan: FrontendPlan, listenFd: number | undefined): void {
    if (plan.access !== this.plan.access) this.gate = this.#gateOf(plan);
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
    const { accepted, all, holding } = this.#context.gauges;
    Atomics.sub(accepted, this.plan.index, 1);
    Atomics.sub(all, 0, 1);
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

  /**
   * To be called at each sweep. When accept(2) finds no descriptor libuv says nothing: it closes the clients (uv__emfile_trick), or
   * without a descriptor of its own to do that asks again without end. So lb4 looks for itself, and lets them wait in the kernel.
   */
  sweep(): void {
    if (this.#server !== undefined && !this.#findsDescriptor()) this.#stopAccepting();
    else this.poll();
  }

  /** Accepts nothing any more. The one that waits is let in, over the limit: whoever accepts after this one can no longer have it. */
  retire(): void {
    const client = this.#end();
    if (client === undefined || client.destroyed) return;
    const { accepted, all } = this.#context.gauges;
    Atomics.add(accepted, this.plan.index, 1);
    Atomics.add(all, 0, 1);
    this.#accepted(client, this);
  }

  /** Accepts nothing any more and resets the one that waits. */
  close(): void {
    const client = this.#end();
    if (client !== undefined) reset(client);
  }

  /** Accepts nothing any more. Returns the one that waits, if any, which is let go of. */
  #end(): Socket | undefined {
    this.#listenFd = undefined;
    this.#stopAccepting();
    const client = this.#held;
    if (client !== undefined) this.#letGo();
    return client;
  }

  #gateOf({ access, index }: FrontendPlan): Gate | undefined {
    return access && new Gate(access, index, this.#context.guards);
  }

  #hasRoom(): boolean {
    const { accepted, all } = this.#context.gauges;
    if (!reserve(all, 0, this.#context.connectionLimit)) return false;
    if (reserve(accepted, this.plan.index, this.plan.maxconn)) return true;
    Atomics.sub(all, 0, 1);
    return false;
  }

  #accept(client: Socket): void {
    // Another proxy's client has yet to be told of.
    if (!this.plan.acceptProxy && this.gate?.refuses(client.remoteAddress ?? '') === true) return reset(client);
    if (this.#hasRoom()) return this.#accepted(client, this);
    this.#warnOfLimit();
    this.#held = client;
    Atomics.add(this.#context.gauges.holding, this.plan.index, 1);
    client.on('error', () => {}); // it may leave meanwhile
    this.#stopAccepting();
    this.#context.wait();
  }

  /** Else accepting would end in EMFILE, in which libuv closes clients without a word, and checks and statistics fail, too. */
  #warnOfLimit(): void {
    const { connectionLimit, gauges } = this.#context;
    if (Atomics.load(gauges.all, 0) < connectionLimit) return;
    this.#context.warn(
      { connections: connectionLimit },
      'no more connections at a time with this limit on open files (ulimit -n): others wait',
    );
  }

  #letGo(): void {
    this.#held = undefined;
    Atomics.sub(this.#context.gauges.holding, this.plan.index, 1);
  }

  /** On a duplicate of the descriptor: libuv closes what it is given, and the queue of connections lives on. */
  #startAccepting(): void {
    const fd = this.#duplicate();
    if (fd === undefined) return;
    // One for a client, too: else what was closed for want of it would be opened again at once.
    if (!this.#findsDescriptor()) return native().closeFd(fd);
    const server = createServer({ ...SOCKET_OPTIONS, pauseOnConnect: true }, (client) => this.#accept(client));
    server.on('error', (error) => {
      this.#warn(error);
      if (!server.listening && this.#server === server) this.#server = undefined;
    });
    server.listen({ fd, backlog: BACKLOG });
    this.#server = server;
  }

  #findsDescriptor(): boolean {
    const fd = this.#duplicate();
    if (fd !== undefined) native().closeFd(fd);
    return fd !== undefined;
  }

  /** Undefined where there is nothing to listen on, or no descriptor: then the log says so. */
  #duplicate(): number | undefined {
    if (this.#listenFd === undefined) return undefined;
    try {
      return native().duplicateFd(this.#listenFd);
    } catch (error) {
      this.#warn(error as Error);
      return undefined;
    }
  }

  #stopAccepting(): void {
    this.#server?.close();
    this.#server = undefined;
  }

  #warn(error: Error): void {
    this.#context.warn({ frontend: this.plan.name, error: error.message }, 'no connection can be accepted');
  }
}
