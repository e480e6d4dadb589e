/** The main process's handle on the pcap driver's process, as thread.ts is on a worker thread. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { FromProcess, Orders, ToWorker, WorkerData } from './messages.ts';
import type { Forwarder, ThreadReports } from './thread.ts';

const PROGRAM = fileURLToPath(new URL('../engine/pcap-process.js', import.meta.url));
/** After the standard descriptors; the next one is the channel's. */
const MEMORY_FD = 3;
/** It may be busy with frames. */
const STOP_MS = 2000;
/** It is started again so many times in RESTARTS_MS. */
const RESTARTS = 5;
const RESTARTS_MS = 60_000;

interface Started {
  readonly child: ChildProcess;
  readonly exited: Promise<string>;
  readonly recovered: number;
}

/**
 * The process, from its start to its end. `cap` aborts when an interface goes down: then the next one goes on with the flow table, as after
 * an lb4 that died.
 */
export class PcapThread implements Forwarder {
  readonly recovered: number;
  readonly #reports: ThreadReports;
  readonly #data: WorkerData;
  readonly #applying: (() => void)[] = [];
  readonly #restarts: number[] = [];
  /** Settled when there is no process any more, and none will follow. */
  readonly #ended: Promise<void>;
  /** What goes by them. */
  #orders: Orders;
  #child: ChildProcess | undefined;
  /** Undefined: not told yet. */
  #sources: ReadonlySet<number> | undefined;
  #isStopping = false;

  private constructor(data: WorkerData, reports: ThreadReports, started: Started) {
    this.recovered = started.recovered;
    this.#data = data;
    this.#orders = data;
    this.#reports = reports;
    this.#ended = this.#live(started);
  }

  /** Starts it. Rejects with an Error with a `code` (ERR_PCAP_PACKAGES, EPERM …) when it cannot start; then it is gone. */
  static async start(data: WorkerData, reports: ThreadReports): Promise<PcapThread> {
    return new PcapThread(data, reports, await startProcess(data, reports));
  }

  usesSource(address: number): boolean {
    return this.#sources?.has(address) ?? true;
  }

  async apply(orders: Orders): Promise<void> {
    this.#orders = orders;
    if (this.#child === undefined) return;
    const applied = new Promise<void>((resolve) => this.#applying.push(resolve));
    this.post({ type: 'settings', ...orders });
    await applied;
  }

  post(message: ToWorker): void {
    if (this.#child?.connected) send(this.#child, message.type === 'settings' ? { ...message, ...crossing(message) } : message);
  }

  halt(): Promise<void> {
    return this.stop();
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    this.post({ type: 'stop' });
    const child = this.#child;
    const timer = setTimeout(() => child?.kill('SIGKILL'), STOP_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  /** Until the end of the last process. */
  async #live(first: Started): Promise<void> {
    let started: Started | undefined = first;
    this.#listen(first.child);
    while (started !== undefined) {
      const reason: string = await started.exited;
      this.#child = undefined;
      // The next one begins with the newest orders.
      for (const resolve of this.#applying.splice(0)) resolve();
      if (this.#isStopping) return;
      const began = this.#orders;
      started = await this.#restart(reason);
      if (started === undefined) continue;
      if (this.#isStopping) started.child.kill('SIGKILL');
      this.#listen(started.child);
      // Others came while it started.
      if (this.#orders !== began) void this.apply(this.#orders);
    }
  }

  #listen(child: ChildProcess): void {
    this.#child = child;
    this.#sources = undefined;
    child.on('message', (message: FromProcess) => {
      if (message.type === 'applied') this.#applying.shift()?.();
      else if (message.type === 'sources') this.#sources = new Set(message.addresses);
      else if (message.type === 'signals') this.#reports.signals(message.servers);
    });
  }

  async #restart(reason: string): Promise<Started | undefined> {
    const now = performance.now();
    while (this.#restarts.length > 0 && now - this.#restarts[0] > RESTARTS_MS) this.#restarts.shift();
    if (this.#restarts.push(now) > RESTARTS) {
      this.#reports.failed(new Error(`the pcap process ended ${this.#restarts.length} times in a minute, at last by ${reason}`));
      return undefined;
    }
    this.#reports.told(`the pcap process ended by ${reason}, as it does when an interface goes down: it is started again`);
    try {
      return await startProcess({ ...this.#data, ...this.#orders, isFound: true }, this.#reports);
    } catch (error) {
      this.#reports.failed(error as Error);
      return undefined;
    }
  }
}

/** Resolves when it forwards. */
async function startProcess(data: WorkerData, { told }: ThreadReports): Promise<Started> {
  const child = fork(PROGRAM, [], {
    serialization: 'advanced',
    execArgv: [],
    stdio: ['ignore', 'ignore', 'pipe', data.memoryFd, 'ipc'],
  });
  const lastLine = lastLineOf(child);
  const exited = new Promise<string>((resolve) => {
    child.once('error', ({ message }) => resolve(message));
    child.once('close', (code, signal) => resolve(`${signal ?? `exit status ${code}`}${lastLine()}`));
  });
  const ready = new Promise<number>((resolve, reject) => {
    child.on('message', (message: FromProcess) => {
      if (message.type === 'ready') resolve(message.recovered);
      else if (message.type === 'failed') reject(Object.assign(new Error(message.message), { code: message.code }));
      else if (message.type === 'told') told(message.message);
    });
    void exited.then((reason) => reject(new Error(`the pcap process ended before it was ready, by ${reason}`)));
  });
  send(child, { ...data, ...crossing(data), memoryFd: MEMORY_FD });
  return { child, exited, recovered: await ready };
}

/** What it said last, for whoever tells of its end. libpcap says of every interface without an address that this may not work; it does. */
function lastLineOf(child: ChildProcess): () => string {
  let last = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    const lines = text.split('\n').filter((line) => line !== '' && !line.includes('This may not actually work'));
    last = lines.at(-1) ?? last;
  });
  return () => (last === '' ? '' : ` (${last})`);
}

/** A process that has just ended is told nothing. */
function send(child: ChildProcess, message: object): void {
  child.send(message, () => {});
}

/** Orders as they cross to another process, which shares no SharedArrayBuffer: whose turn it is begins anew there. */
function crossing({ settings, hops, filter }: Orders): Orders {
  const backends = settings.services.backends.map((backend) => {
    const { turns } = backend.choice;
    return turns === undefined ? backend : { ...backend, choice: { ...backend.choice, turns: new Uint8Array(turns).slice().buffer } };
  });
  return { settings: { ...settings, services: { ...settings.services, backends } }, hops, filter };
}
