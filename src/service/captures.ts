/** Captures that operators ask for, one at a time: rings of the data path, read as fast as whoever asked reads, and with names for indexes. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type CaptureBatch, type Captured, type CaptureWanted, OrderError } from '../control/orders.ts';
import type { CapturedPacket } from '../control/pcapng.ts';
import type { FastPathCounters } from '../control/source.ts';
import type { CapturedFrame } from '../engine/captures.ts';
import { messageOf } from '../errors.ts';
import type { CarriedCapture, CarriedQuery, DataPath } from './data-path.ts';
import { type Names, namesIn, queryOf } from './flow-names.ts';
import type { Plan } from './plan.ts';

export interface CapturesParts {
  readonly path: Pick<DataPath, 'capture' | 'packets' | 'mode'>;
  readonly plan: () => Plan;
  readonly isStopped: () => boolean;
}

const STOPS = 'this lb4 stops, or another has taken over from it';
/** In ms: who has asked for nothing for so long has gone, however it was. */
const GONE_MS = 150_000;
/** In ms: between two looks at rings that are empty, … */
const EMPTY_MS = 20;
/** … and at such as are not: to read them is a part of the main thread's time, and never all of it. */
const BUSY_MS = 5;
/** Bytes of all workers' rings at a time. */
const MOST_BYTES = 128 << 10;

export class Captures {
  readonly #parts: CapturesParts;
  #isOn = false;
  #isClosed = false;
  #now: Run | undefined;

  constructor(parts: CapturesParts) {
    this.#parts = parts;
  }

  /** Rejects with an OrderError where there is nothing to capture, or another capture runs. */
  async start({ filter, snaplen }: CaptureWanted): Promise<Captured> {
    const { path, plan, isStopped } = this.#parts;
    if (path.capture === undefined)
      throw new OrderError('refused', `${path.mode} mode carries connections, not packets: capture with tcpdump on this host`);
    const query = (now: Plan) => queryOf(filter, now);
    const first = plan();
    const wanted = query(first);
    if (isStopped()) throw new OrderError('refused', STOPS);
    if (this.#isOn) throw new OrderError('refused', 'another capture runs; there is one at a time');
    this.#isOn = true;
    try {
      const carried = await path.capture(wanted, snaplen);
      if (this.#isClosed) {
        await carried.close();
        throw new Error(STOPS);
      }
      const over = () => {
        this.#isOn = false;
        this.#now = undefined;
      };
      return (this.#now = new Run({ ...this.#parts, query, first, carried, over }));
    } catch (error) {
      this.#isOn = false;
      throw new OrderError('refused', `it cannot be captured: ${messageOf(error)}`);
    }
  }

  /** Ends what runs, since lb4 does. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#now?.end();
  }
}

/** Packets that the kernel has forwarded, and first ones that it has dropped, by itself: no capture has them. */
type InKernel = Pick<FastPathCounters, 'forwarded' | 'dropped'>;

interface RunParts extends CapturesParts {
  readonly query: (plan: Plan) => CarriedQuery;
  readonly first: Plan;
  readonly carried: CarriedCapture;
  readonly over: () => void;
}

class Run implements Captured {
  readonly #parts: RunParts;
  readonly #before: InKernel;
  readonly #gone: NodeJS.Timeout;
  readonly #stopping = new AbortController();
  #plan: Plan;
  #names: Names;
  #isOver = false;
  /** Since it began, as far as is known. */
  #since: InKernel = { forwarded: 0, dropped: 0 };
  /** Why it has ended, and nobody has been told yet. */
  #reason: string | undefined;

  constructor(parts: RunParts) {
    this.#parts = parts;
    this.#plan = parts.first;
    this.#names = namesIn(parts.first);
    this.#before = this.#inKernel();
    this.#gone = setTimeout(() => void this.stop(), GONE_MS).unref();
  }

  async next(): Promise<CaptureBatch | undefined> {
    if (this.#isOver) return this.#lastWord();
    this.#gone.refresh();
    this.#follow();
    let frames = this.#read();
    await sleep(frames.length > 0 ? BUSY_MS : EMPTY_MS);
    if (frames.length === 0) frames = this.#read();
    return this.#isOver && frames.length === 0 ? this.#lastWord() : this.#batch(frames);
  }

  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  /** Ends it, since lb4 stops. */
  async end(): Promise<void> {
    await this.stop(STOPS);
    this.#stopping.abort();
  }

  /** @param reason what whoever reads is told */
  async stop(reason?: string): Promise<void> {
    if (this.#isOver) return;
    this.#reason = reason;
    this.#isOver = true;
    clearTimeout(this.#gone);
    const { carried, over } = this.#parts;
    try {
      await carried.close();
    } finally {
      over();
    }
  }

  #read(): CapturedFrame[] {
    return this.#isOver ? [] : this.#parts.carried.read(MOST_BYTES);
  }

  /** Why it has ended, told once. */
  #lastWord(): CaptureBatch | undefined {
    const note = this.#reason;
    this.#reason = undefined;
    return note === undefined ? undefined : { packets: [], lost: this.#parts.carried.lost, note };
  }

  #batch(frames: readonly CapturedFrame[]): CaptureBatch {
    return { packets: frames.map((frame) => this.#packet(frame)), lost: this.#parts.carried.lost, note: this.#note() };
  }

  /** What a name stands for may be another by now. */
  #follow(): void {
    const plan = this.#parts.plan();
    if (plan === this.#plan) return;
    this.#plan = plan;
    this.#names = namesIn(plan);
    try {
      this.#parts.carried.follow(this.#parts.query(plan));
    } catch (error) {
      void this.stop(messageOf(error));
    }
  }

  #packet({ verdict, frontend, server, ...frame }: CapturedFrame): CapturedPacket {
    const { frontends, servers } = this.#names;
    const [front, back] = [frontends.get(frontend), servers.get(server)];
    const comment = [verdict, ...(front === undefined ? [] : [`frontend ${front}`]), ...(back === undefined ? [] : [`server ${back}`])];
    return { ...frame, comment: comment.join('; ') };
  }

  #inKernel(): InKernel {
    return this.#parts.path.packets?.().fastPath ?? { forwarded: 0, dropped: 0 };
  }

  #note(): string | undefined {
    // Another lb4 may have the data path by the end.
    if (!this.#isOver) this.#since = since(this.#before, this.#inKernel());
    const { forwarded, dropped } = this.#since;
    const others = this.#parts.carried.takesBack ? ', of other clients' : '; --client=ADDRESS has those of one';
    const notes = [
      ...(dropped > 0 ? [`${dropped} first packets were dropped by the fast path in the kernel and are not here`] : []),
      ...(forwarded > 0 ? [`${forwarded} packets were forwarded by the fast path in the kernel and are not here${others}`] : []),
    ];
    return notes.length === 0 ? undefined : notes.join('; ');
  }
}

function since(before: InKernel, { forwarded, dropped }: InKernel): InKernel {
  return { forwarded: forwarded - before.forwarded, dropped: dropped - before.dropped };
}
