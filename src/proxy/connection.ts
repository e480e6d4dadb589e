/** One client's connection: its PROXY header, its server (or another, or a place in the queue), then the tunnel to its end. */
import { connect, type Socket } from 'node:net';
import { meaningOfError } from '../errno.ts';
import type { Endpoints } from './address.ts';
import type { Backend, PendingConnection } from './backend.ts';
import type { Context } from './context.ts';
import type { End, EndedConnection } from './endings.ts';
import type { ProxyFlow } from './flow-list.ts';
import type { FrontendListener } from './frontend-listener.ts';
import { readHeader } from './header-reader.ts';
import { CONNECT_FAILURES, frontendRow, REFUSED, RETRIES, serverRow, TOTAL } from './memory.ts';
import type { ServerPlan } from './plan.ts';
import { formatHeader } from './proxy-protocol.ts';
import { reset } from './reset.ts';
import { SOCKET_OPTIONS } from './sockets.ts';
import { Tunnel } from './tunnel.ts';

/** What a closed socket has forgotten, as the connection log will want it. */
interface Noted {
  readonly to: string;
  /** By performance.now(); undefined: nobody has noted that. */
  readonly began: number | undefined;
  via: string | undefined;
}

const NONE_TRIED: ReadonlySet<number> = new Set();

export class Connection implements PendingConnection {
  readonly frontend: FrontendListener;
  readonly backend: Backend;
  readonly #context: Context;
  readonly #client: Socket;
  /** Called once, when all that it held is given back. */
  readonly #ended: (connection: Connection) => void;
  #server: Socket | undefined;
  /** Whose load counts this connection. */
  #target: ServerPlan | undefined;
  #tried: Set<number> | undefined;
  #endpoints: Endpoints | undefined;
  #tunnel: Tunnel | undefined;
  #noted: Noted | undefined;
  #isOver = false;
  /** As what its source counts it; 0: not. */
  #source = 0;

  /** The client is paused and the frontend has counted it. */
  constructor(context: Context, frontend: FrontendListener, backend: Backend, client: Socket, ended: (connection: Connection) => void) {
    this.#context = context;
    this.frontend = frontend;
    this.backend = backend;
    this.#client = client;
    this.#ended = ended;
    client.on('error', () => this.abort('reset-by-client')).on('close', () => this.#closed());
  }

  /** Undefined while it waits. */
  get server(): ServerPlan | undefined {
    return this.#target;
  }

  /** The client, as its PROXY header says where it has one: who connected here is another proxy then, and the same for all. */
  get remote(): Pick<Endpoints, 'source' | 'sourcePort'> | undefined {
    return this.#endpoints ?? endpointsOf(this.#client);
  }

  describe(now: number): ProxyFlow {
    const client = this.#client;
    const { remote } = this;
    const server = this.#server;
    const isUp = this.#tunnel !== undefined;
    return {
      client: joined(remote?.source, remote?.sourcePort),
      to: joined(client.localAddress, client.localPort),
      frontend: this.frontend.plan.index,
      server: this.#target?.index ?? -1,
      via: isUp ? joined(server?.localAddress, server?.localPort) : undefined,
      address: this.#target && joined(this.#target.host, this.#target.port),
      state: isUp ? 'established' : this.#target === undefined ? 'waiting' : 'connecting',
      bytesTx: isUp ? client.bytesRead : 0,
      bytesRx: isUp ? client.bytesWritten : 0,
      idleMs: this.#tunnel?.idleMs(now) ?? 0,
    };
  }

  /** For the connection log, which has just begun to ask. */
  note(): void {
    this.#note(undefined);
  }

  #note(began: number | undefined): void {
    const { localAddress, localPort } = this.#client;
    this.#noted = { to: joined(localAddress, localPort), began, via: this.#viaOf(this.#tunnel === undefined ? undefined : this.#server) };
    this.endpoints();
  }

  #viaOf(server: Socket | undefined): string | undefined {
    return server && joined(server.localAddress, server.localPort);
  }

  start(): void {
    if (this.#context.endings.isOn) this.#note(performance.now());
    if (!this.frontend.plan.acceptProxy) return this.#admit();
    readHeader(
      this.#client,
      (endpoints) => {
        this.#endpoints = endpoints;
        if (this.frontend.gate?.refuses(this.remote?.source ?? '') === true) this.abort('refused');
        else this.#admit();
      },
      (reason) => {
        this.#context.warn({ frontend: this.frontend.plan.name, reason }, 'a client without a valid PROXY header');
        this.abort('no-proxy-header');
      },
    );
  }

  #admit(): void {
    this.recount();
    this.backend.place(this);
  }

  /** Has it counted with its source's as the frontend's rules say now. */
  recount(): void {
    const { sources } = this.#context.guards;
    if (this.#source !== 0) sources.leave(this.#source);
    this.#source = this.#isOver ? 0 : (this.frontend.gate?.enter(this.remote?.source ?? '') ?? 0);
  }

  /** Resets both sides and gives back what was held. */
  abort(how: End): void {
    reset(this.#client);
    // A reset of one that is still connecting would wait for its handshake.
    if (this.#tunnel === undefined) this.#server?.destroy();
    else if (this.#server !== undefined) reset(this.#server);
    this.#end(how);
  }

  /** Whether it has been silent too long. To be called at each sweep. */
  isIdle(now: number): boolean {
    return this.#tunnel?.isIdle(now, this.frontend.plan.clientTimeoutMs, this.backend.plan.serverTimeoutMs) ?? false;
  }

  // ---- PendingConnection

  get tried(): ReadonlySet<number> {
    return this.#tried ?? NONE_TRIED;
  }

  endpoints(): Endpoints | undefined {
    return (this.#endpoints ??= endpointsOf(this.#client));
  }

  wait(): void {
    this.#context.wait();
    // Reads until the high-water mark and so learns of a client that gives up. A FIN behind bytes is not met before they are
    // handed on: that client may want its answer.
    this.#client.once('end', () => {
      if (this.#target === undefined) this.abort('left-by-client');
    });
    this.#client.read(0);
  }

  refuse(): void {
    this.#context.counters[frontendRow(this.frontend.plan.index) + REFUSED]++;
    this.abort('refused');
  }

  connect(server: ServerPlan): void {
    this.#target = server;
    const { host, port } = server;
    const socket = connect({ ...SOCKET_OPTIONS, host, port, autoSelectFamily: false });
    this.#server = socket;
    const { connectTimeoutMs } = this.backend.plan;
    const timer = setTimeout(() => socket.destroy(timeoutError(connectTimeoutMs)), connectTimeoutMs);
    socket.on('error', (error) => (this.#tunnel === undefined ? this.#failed(error) : this.abort('reset-by-server')));
    socket.on('connect', () => {
      clearTimeout(timer);
      this.#established(socket, server);
    });
    socket.on('close', () => {
      clearTimeout(timer);
      if (this.#tunnel !== undefined) this.#closed();
    });
  }

  // ---- its life

  #failed(error: NodeJS.ErrnoException): void {
    if (this.#isOver) return;
    const { index, name } = this.#target!;
    const { counters } = this.#context;
    const { fault, words } = meaningOfError(error);
    const isServers = fault === 'server' || fault === 'route';
    // What this host lacks is no error of the server's.
    if (isServers) counters[serverRow(index) + CONNECT_FAILURES]++;
    if (fault === 'short') {
      // Another server would fare no better.
      this.#context.warn({ server: name, error: error.message }, 'this host has no resources for a connection to a server');
      return this.abort('refused');
    }
    if (isServers) this.#context.signal(index, fault === 'route' ? `${error.message}: ${words}` : error.message);
    // Not the server's fault, but another may be reached.
    else this.#context.warn({ server: name, error: error.message, reason: words }, 'this host could not connect to a server');
    this.#tried = (this.#tried ?? new Set()).add(index);
    this.#target = undefined;
    this.#server = undefined;
    this.backend.release(index);
    if (!this.backend.mayRetry(this)) return this.refuse();
    counters[serverRow(index) + RETRIES]++;
    this.backend.place(this);
  }

  #established(server: Socket, { index }: ServerPlan): void {
    const frontend = this.frontend.plan.index;
    const { counters, gauges } = this.#context;
    counters[frontendRow(frontend) + TOTAL]++;
    counters[serverRow(index) + TOTAL]++;
    Atomics.add(gauges.frontendCurrent, frontend, 1);
    Atomics.add(gauges.serverCurrent, index, 1);
    const { sendProxy } = this.backend.plan;
    if (this.#noted !== undefined) this.#noted.via = this.#viaOf(server);
    if (sendProxy !== undefined) server.write(formatHeader(sendProxy, this.endpoints()));
    this.#tunnel = new Tunnel(this.#context, this.#client, server, frontendRow(frontend), serverRow(index));
  }

  /** One side is closed; after an error all is over already. */
  #closed(): void {
    if (this.#server === undefined || (this.#client.closed && this.#server.closed))
      this.#end(this.#tunnel === undefined ? 'left-by-client' : 'fin');
  }

  #end(how: End): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#tellEnd(how);
    const { gauges } = this.#context;
    if (this.#tunnel !== undefined) {
      Atomics.sub(gauges.frontendCurrent, this.frontend.plan.index, 1);
      Atomics.sub(gauges.serverCurrent, this.#target!.index, 1);
    }
    if (this.#source !== 0) this.#context.guards.sources.leave(this.#source);
    this.#ended(this);
    // Last: both let others in, who find all of the above done.
    if (this.#target === undefined) this.backend.withdraw(this);
    else this.backend.release(this.#target.index);
    this.frontend.release();
  }

  /** To the connection log, if it wants to hear of this one. */
  #tellEnd(end: End): void {
    const noted = this.#noted;
    const { endings } = this.#context;
    if (noted === undefined || !endings.wants(this.#tunnel !== undefined)) return;
    endings.add(() => this.#describeEnd(end, noted));
  }

  #describeEnd(end: End, noted: Noted): EndedConnection {
    const now = performance.now();
    const target = this.#tunnel === undefined ? undefined : this.#target;
    const { tx, rx } = this.#tunnel?.carried ?? { tx: 0, rx: 0 };
    const client = this.endpoints();
    return {
      client: joined(client?.source, client?.sourcePort),
      to: noted.to,
      via: noted.via,
      address: target && joined(target.host, target.port),
      frontend: this.frontend.plan.index,
      server: target?.index ?? -1,
      end,
      at: Date.now(),
      ageMs: noted.began === undefined ? undefined : now - noted.began,
      quietMs: this.#tunnel?.idleMs(now) ?? 0,
      bytesTx: tx,
      bytesRx: rx,
    };
  }
}

function endpointsOf({ remoteAddress, remotePort, localAddress, localPort }: Socket): Endpoints | undefined {
  if (remoteAddress === undefined || remotePort === undefined || localAddress === undefined || localPort === undefined) return undefined;
  return { source: remoteAddress, sourcePort: remotePort, destination: localAddress, destinationPort: localPort };
}

/** A socket that is closed has forgotten both. */
function joined(host = '', port = 0): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function timeoutError(ms: number): Error {
  return Object.assign(new Error(`no answer in ${ms} ms`), { code: 'ETIMEDOUT' });
}
