/** The main thread's handle on the packet worker: messages go there, each with a wake-up, and answers come back. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Signal } from '../forward/signals.ts';
import { native } from '../io/native.ts';
import type { FromWorker, Orders, Ready, ToWorker, WorkerData } from './messages.ts';

export interface ThreadReports {
  /** It died of an error after it had started. */
  readonly failed: (error: Error) => void;
  readonly signals: (signals: readonly Signal[]) => void;
  /** Something people should know. */
  readonly told: (message: string) => void;
}

/** Whoever forwards packets, as its main thread sees it. */
export interface Forwarder {
  /** Connections of an lb4 that died that go on. */
  readonly recovered: number;
  /** Whether connections to servers leave, or may leave, from that address of ours (native order), by all that has been applied. */
  usesSource(address: number): boolean;
  /** Resolves when it goes by them, or is gone. */
  apply(orders: Orders): Promise<void>;
  /** Nothing happens when it is gone. */
  post(message: ToWorker): void;
  /** Resolves when it is gone. */
  stop(): Promise<void>;
}

/** The packet worker, from its start to its end. */
export class Thread implements Forwarder {
  readonly #worker: Worker;
  /** Settled when the worker is gone, however it went. */
  readonly #exited: Promise<void>;
  /** Who waits for settings to be applied, in the order in which they were sent. */
  readonly #applying: (() => void)[] = [];
  /** The worker's eventfd; -1 once it is gone. */
  #wakeFd: number;
  readonly recovered: number;
  #sources: ReadonlySet<number> | undefined;

  private constructor(worker: Worker, exited: Promise<void>, { wakeFd, recovered }: Ready, { failed, signals }: ThreadReports) {
    this.#worker = worker;
    this.#exited = exited;
    this.#wakeFd = wakeFd;
    this.recovered = recovered;
    worker.on('error', (error: Error) => {
      this.#lose();
      failed(error);
    });
    void exited.then(() => this.#lose());
    worker.on('message', (message: FromWorker) => {
      if (message.type === 'applied') this.#applying.shift()?.();
      else if (message.type === 'sources') this.#sources = new Set(message.addresses);
      else if (message.type === 'signals') signals(message.servers);
    });
  }

  /** Starts it. Rejects with the system's error when the worker cannot start; then it is gone. */
  static async start(data: WorkerData, reports: ThreadReports): Promise<Thread> {
    const worker = new Worker(new URL('../engine/worker.js', import.meta.url), { workerData: data, name: 'lb4-worker' });
    const exited = new Promise<void>((resolve) => void worker.once('exit', () => resolve()));
    try {
      const died = exited.then(() => Promise.reject(new Error('the worker ended before it was ready')));
      const [ready] = (await Promise.race([once(worker, 'message'), died])) as [Ready];
      return new Thread(worker, exited, ready, reports);
    } catch (error) {
      await worker.terminate();
      throw error;
    }
  }

  usesSource(address: number): boolean {
    return this.#sources?.has(address) ?? true;
  }

  async apply(orders: Orders): Promise<void> {
    if (this.#wakeFd < 0) return;
    const applied = new Promise<void>((resolve) => this.#applying.push(resolve));
    this.post({ type: 'settings', ...orders });
    await applied;
  }

  post(message: ToWorker): void {
    if (this.#wakeFd < 0) return;
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    this.#worker.postMessage(message);
    native().wake(this.#wakeFd);
  }

  async stop(): Promise<void> {
    this.post({ type: 'stop' });
    await this.#exited;
  }

  /** With the worker goes its eventfd, whose number may soon be somebody else's, and whoever waits for an answer waits in vain. */
  #lose(): void {
    this.#wakeFd = -1;
    for (const resolve of this.#applying.splice(0)) resolve();
  }
}
