/** The main process's handle on the pcap driver's process, as thread.ts is on a worker thread. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../errors.ts';
import { native } from '../io/native.ts';
import { type Memory, memoryIn } from '../layout/memory.ts';
import { Answers } from './answers.ts';
import type { CaptureOrder, FromProcess, Orders, ToWorker, WorkerData } from './messages.ts';
import { isSound, TRIAL_MS, takeUp, trust } from './origin.ts';
import type { Forwarder, ThreadReports } from './thread.ts';

const PROGRAM = fileURLToPath(new URL('../engine/pcap-process.js', import.meta.url));
/** After the standard descriptors; the next one is the channel's. */
const MEMORY_FD = 3;
/** It may be busy with frames. */
const STOP_MS = 2000;
/** It takes up the whole table first. */
const START_MS = 60_000;
/** One that ends so soon is likely to do so again. */
const LOOP_MS = 2000;
/** Seconds before it is started again, by how many have ended so soon, or could not be started, in a row. */
const PAUSES_S = [0, 1, 2, 4, 8, 16, 30] as const;

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
  readonly pulses = [() => this.#pulse()];
  readonly #reports: ThreadReports;
  readonly #data: WorkerData;
  readonly #answers: Answers;
  /** Settled when there is no process any more, and none will follow. */
  readonly #ended: Promise<void>;
  /** What goes by them. */
  #orders: Orders;
  /** As last told: of the interfaces there are. */
  #mtus: ReadonlyMap<number, number>;
  #capture: CaptureOrder | undefined;
  #child: ChildProcess | undefined;
  /** The next one, which does not forward yet. */
  #starting: ChildProcess | undefined;
  #endPause: (() => void) | undefined;
  /** How the last process that was started again fares. */
  #trial: NodeJS.Timeout | undefined;
  /** How many in a row ended soon, or could not be started. */
  #failures = 0;
  #isStopping = false;

  private constructor(data: WorkerData, reports: ThreadReports, started: Started) {
    this.recovered = started.recovered;
    this.#data = data;
    this.#orders = data;
    this.#mtus = data.mtus;
    this.#reports = reports;
    this.#answers = new Answers(reports);
    this.#ended = this.#live(started);
  }

  /** Starts it. Rejects with an Error with a `code` (ERR_PCAP_PACKAGES, EPERM …) when it cannot start; then it is gone. */
  static async start(data: WorkerData, reports: ThreadReports): Promise<PcapThread> {
    return new PcapThread(data, reports, await startProcess(data, reports));
  }

  usesSource(address: number): boolean {
    return this.#answers.usesSource(address);
  }

  async apply(orders: Orders): Promise<void> {
    this.#orders = orders;
    if (this.#child === undefined) return;
    const applied = this.#answers.applied();
    this.post({ type: 'settings', ...orders });
    await applied;
  }

  postTo(_worker: number, message: ToWorker): void {
    this.post(message);
  }

  post(message: ToWorker): void {
    // Whoever comes next begins with it.
    if (message.type === 'interfaces') this.#mtus = message.mtus;
    if (message.type === 'capture') this.#capture = message.order;
    if (this.#child?.connected) send(this.#child, message.type === 'settings' ? { ...message, ...crossing(message) } : message);
  }

  giveUp(): void {
    this.#answers.giveUp();
  }

  halt(): Promise<void> {
    return this.stop();
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#endPause?.();
    const child = this.#child ?? this.#starting;
    if (child?.connected) send(child, { type: 'stop' });
    const timer = setTimeout(() => child?.kill('SIGKILL'), STOP_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  async #pulse(): Promise<void> {
    // Of its end, and how the next one fares, is told anyway.
    if (this.#child === undefined) return;
    const alive = this.#answers.alive();
    this.post({ type: 'ask' });
    await alive;
  }

  /** Until the end of the last process. */
  async #live(first: Started): Promise<void> {
    let started: Started | undefined = first;
    this.#listen(first.child);
    while (started !== undefined) {
      const began = performance.now();
      const reason: string = await started.exited;
      this.#child = undefined;
      clearTimeout(this.#trial);
      // The next one begins with the newest orders.
      this.#answers.end();
      if (this.#isStopping) return;
      this.#failures = performance.now() - began < LOOP_MS ? this.#failures + 1 : 0;
      started = await this.#restart(reason);
    }
  }

  #listen(child: ChildProcess): void {
    this.#child = child;
    child.on('message', (message: FromProcess) => {
      if (message.type !== 'told' && message.type !== 'failed') this.#answers.take(message);
    });
  }

  /** Tries until there is another one; undefined: there shall be none, or it would not take up the table. */
  async #restart(reason: string): Promise<Started | undefined> {
    const isDown = reason.startsWith('SIGABRT') ? ', as it does when an interface goes down' : '';
    let what = `the pcap process ended by ${reason}${isDown}`;
    while (!this.#isStopping) {
      const seconds = PAUSES_S[Math.min(this.#failures, PAUSES_S.length - 1)];
      this.#reports.told(`${what}: it is started again${seconds === 0 ? '' : ` in ${seconds} s`}`);
      await this.#pause(seconds * 1000);
      if (this.#isStopping) return undefined;
      try {
        return await this.#startNext();
      } catch (error) {
        if (this.#isStopping) return undefined;
        if (!isSound(this.#memory().header)) {
          this.#reports.failed(error as Error);
          return undefined;
        }
        this.#failures++;
        what = messageOf(error);
      }
    }
    return undefined;
  }

  async #startNext(): Promise<Started> {
    const began = this.#orders;
    const data = { ...this.#data, ...began, mtus: this.#mtus };
    try {
      const started = await takeUp(this.#memory(), (attempts) => {
        return startProcess({ ...data, attempts }, this.#reports, (child) => (this.#starting = child));
      });
      this.#listen(started.child);
      // Others came while it started; of what went up or down since it looked it has heard nothing.
      if (this.#orders !== began) void this.apply(this.#orders);
      this.post({ type: 'interfaces', mtus: this.#mtus });
      if (this.#capture !== undefined) this.post({ type: 'capture', order: this.#capture });
      this.#trial = setTimeout(() => void this.#endTrial(started.child), TRIAL_MS).unref();
      return started;
    } finally {
      this.#starting = undefined;
    }
  }

  /** Starts that failed count in a row, not over the life of this lb4. One that hangs does not answer: then there is no end. */
  async #endTrial(child: ChildProcess): Promise<void> {
    await this.#pulse();
    if (this.#child === child) trust(this.#memory());
  }

  #memory(): Memory {
    const { memoryFd, room, worker } = this.#data;
    return memoryIn(native().mapSharedMemory(memoryFd), room, worker);
  }

  /** Until then, or until it is stopped. */
  async #pause(milliseconds: number): Promise<void> {
    if (milliseconds === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#endPause = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#endPause = undefined;
  }
}

/**
 * Resolves when it forwards. Rejects when it cannot, or takes too long; then it is gone.
 * @param born told of the child at once
 */
async function startProcess(data: WorkerData, { told }: ThreadReports, born?: (child: ChildProcess) => void): Promise<Started> {
  const child = fork(PROGRAM, [], {
    serialization: 'advanced',
    execArgv: [],
    stdio: ['ignore', 'ignore', 'pipe', data.memoryFd, 'ipc'],
  });
  born?.(child);
  const lastLine = lastLineOf(child);
  const exited = new Promise<string>((resolve) => {
    child.once('error', ({ message }) => resolve(message));
    child.once('close', (code, signal) => resolve(`${signal ?? `exit status ${code}`}${lastLine()}`));
  });
  let timer: NodeJS.Timeout | undefined;
  const ready = new Promise<number>((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`the pcap process was not ready within ${START_MS / 1000} s`)), START_MS);
    child.on('message', (message: FromProcess) => {
      if (message.type === 'ready') resolve(message.recovered);
      else if (message.type === 'failed') reject(Object.assign(new Error(message.message), { code: message.code }));
      else if (message.type === 'told') told(message.message);
    });
    void exited.then((reason) => reject(new Error(`the pcap process ended before it was ready, by ${reason}`)));
    send(child, { ...data, ...crossing(data), memoryFd: MEMORY_FD });
  });
  try {
    return { child, exited, recovered: await ready };
  } catch (error) {
    child.kill('SIGKILL');
    await exited;
    throw error;
  } finally {
    clearTimeout(timer);
  }
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
