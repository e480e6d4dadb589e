/**
 * A worker that is looked at: `process` is the core's, with a copy of what comes in before it and of what goes out after it. What no filter could
 * want is not even copied; whose server is chosen on the way is judged afterwards. It has its cost while somebody looks: docs/control.md.
 */
import { closeSync, openSync } from 'node:fs';
import { hrtime, pid } from 'node:process';
import type { Core } from '../forward/core.ts';
import { KEY, KEY_DESTINATION, KEY_PORTS, KEY_SOURCE, NO_OWNER, Whose } from '../forward/whose.ts';
import { native } from '../io/native.ts';
import * as C from '../layout/connection.ts';
import * as Flow from '../layout/flow.ts';
import * as D from '../layout/frames.ts';
import { destinationPort, sourcePort } from '../packet/address.ts';
import type { Slab } from '../packet/fields.ts';
import * as Ring from './capture-ring.ts';
import { type FlowQuery, isClientOf } from './flow-query.ts';
import type { CaptureOrder } from './messages.ts';

export interface CaptureParts {
  readonly core: Core;
  readonly slab: Slab;
  readonly frames: Int32Array;
  readonly worker: number;
  /** As {@link mapRings} has them. */
  readonly rings: ArrayBuffer;
  readonly order: CaptureOrder;
}

/** Several interfaces. */
const SEVERAL = -1;
/** No record of it: nobody wants it, or it was lost. */
const NOT_HERE = -1;
const { BEFORE_IP, ETHERNET } = Ring;

export class Capture {
  readonly #core: Core;
  readonly #slab: Slab;
  readonly #frames: Int32Array;
  readonly #writer: Ring.CaptureWriter;
  readonly #whose: Whose;
  readonly #keys = new Int32Array(D.BATCH * KEY);
  /** Of each frame of the batch: where its record is, and who is known to own it. */
  readonly #places = new Int32Array(D.BATCH);
  readonly #owners = new Int32Array(D.BATCH);
  #order: CaptureOrder;

  constructor({ core, slab, frames, worker, rings, order }: CaptureParts) {
    this.#core = core;
    this.#slab = slab;
    this.#frames = frames;
    this.#order = order;
    this.#whose = new Whose({ slab, frames, table: core.table, records: core.records, services: core.services });
    this.#writer = new Ring.CaptureWriter(rings, worker);
  }

  /** The same capture, of others. */
  follow(order: CaptureOrder): void {
    this.#order = order;
  }

  /** As the core's, of so many frames. */
  process(count: number): void {
    const began = now();
    for (let i = 0; i < count; i++) this.#before(i, began);
    this.#core.process(count);
    const ended = now();
    for (let i = 0; i < count; i++) if (this.#places[i] !== NOT_HERE) this.#after(i, ended);
    this.#writer.publish();
  }

  #before(i: number, time: number): void {
    const frames = this.#frames;
    const f = D.HEADER + i * D.STRIDE;
    // What pass 3 alone sees has none of its own.
    frames[f + D.VERDICT] = 0;
    this.#places[i] = NOT_HERE;
    this.#whose.read(f, this.#keys, i * KEY);
    const slot = this.#whose.slotOf(this.#keys, i * KEY);
    const owner = this.#whose.ownerOf(slot, this.#keys, i * KEY);
    this.#owners[i] = owner;
    if (!this.#isWanted(i, slot, owner, slot === Flow.NONE)) return;
    const hasEthernet = (frames[f + D.FLAGS] & D.FLAG_NO_ETHERNET) === 0;
    this.#places[i] = this.#write(f, Ring.IN, time, frames[f + D.INTERFACE], hasEthernet);
  }

  #after(i: number, time: number): void {
    const { words } = this.#writer;
    const frames = this.#frames;
    const f = D.HEADER + i * D.STRIDE;
    const place = this.#places[i];
    const slot = this.#whose.slotOf(this.#keys, i * KEY);
    // One that ends its connection was known before.
    const owner = slot === Flow.NONE ? this.#owners[i] : this.#whose.ownerOf(slot, this.#keys, i * KEY);
    if (!this.#isWanted(i, slot, owner, false)) {
      words[place + Ring.KIND] = Ring.SKIP;
      return;
    }
    words[place + Ring.VERDICT] = frames[f + D.VERDICT];
    words[place + Ring.OWNER] = owner;
    if (this.#order.takesBack && slot !== Flow.NONE) this.#takeBack(slot);
    const out = frames[f + D.OUT];
    if (out === D.DROP) return;
    const [ifindex, hasEthernet] = out === D.ROUTE ? [0, false] : [out === D.FLOOD ? SEVERAL : frames[f + D.INTERFACE], true];
    const copy = this.#write(f, Ring.OUT, time, ifindex, hasEthernet);
    if (copy === NOT_HERE) return;
    words[copy + Ring.VERDICT] = frames[f + D.VERDICT];
    words[copy + Ring.OWNER] = owner;
  }

  /** @param isOpen which server it is for shows later */
  #isWanted(i: number, slot: number, owner: number, isOpen: boolean): boolean {
    const { frontends, servers, client } = this.#order.query;
    if (frontends !== undefined && (owner === NO_OWNER || !frontends.has(owner >>> 16))) return false;
    if (servers !== undefined && !isOpen && (owner === NO_OWNER || !servers.has(owner & 0xffff))) return false;
    return client === undefined || this.#isOf(client, i, slot);
  }

  #isOf(client: NonNullable<FlowQuery['client']>, i: number, slot: number): boolean {
    const { table, records } = this.#core;
    if (slot !== Flow.NONE) {
      const r = table.words[(slot << Flow.ENTRY_SHIFT) + Flow.CONNECTION] << C.RECORD_SHIFT;
      return isClientOf(client, table.words, records.words[r + C.FIRST] << Flow.ENTRY_SHIFT, records.words[r + C.LIFE]);
    }
    const keys = this.#keys;
    const at = i * KEY;
    const { network, mask, port } = client;
    const ports = keys[at + KEY_PORTS];
    return (
      ((keys[at + KEY_SOURCE] & mask) === network && (port === undefined || sourcePort(ports) === port)) ||
      ((keys[at + KEY_DESTINATION] & mask) === network && (port === undefined || destinationPort(ports) === port))
    );
  }

  #takeBack(slot: number): void {
    const { words } = this.#core.table;
    const at = slot << Flow.ENTRY_SHIFT;
    if ((words[at + Flow.STATE] & Flow.FAST) !== 0) this.#core.connections.takeBack(words[at + Flow.CONNECTION]);
  }

  /** A record of the frame as it is: where, or NOT_HERE. */
  #write(f: number, kind: number, time: number, ifindex: number, hasEthernet: boolean): number {
    const frames = this.#frames;
    const header = hasEthernet ? ETHERNET : 0;
    const length = frames[f + D.LENGTH] + header;
    const captured = Math.min(length, this.#order.snaplen);
    const count = (BEFORE_IP - header + captured + 3) >>> 2;
    const place = this.#writer.begin(kind, time, count);
    if (place < 0) return NOT_HERE;
    const { words } = this.#writer;
    words[place + Ring.INTERFACE] = ifindex;
    words[place + Ring.HAS_ETHERNET] = Number(hasEthernet);
    words[place + Ring.CAPTURED] = captured;
    words[place + Ring.ORIGINAL] = length;
    words[place + Ring.VLAN] = frames[f + D.VLAN];
    // Word by word: a view of its own for each frame would be garbage, and costs as much as 100 words.
    const from = this.#slab.words;
    const begin = (frames[f + D.OFFSET] - BEFORE_IP) >>> 2;
    for (let i = 0; i < count; i++) words[place + Ring.WORDS + i] = from[begin + i];
    return place;
  }
}

/** Milliseconds of CLOCK_MONOTONIC, with what there is behind the point. */
function now(): number {
  const [seconds, nanoseconds] = hrtime();
  return seconds * 1000 + nanoseconds / 1e6;
}

/**
 * For the life of the worker: a mapping goes in a turn of the event loop, which never comes in its thread (worker.ts).
 * @throws the system's error
 */
export function mapRings(order: CaptureOrder): ArrayBuffer {
  if (order.pid === pid) return native().mapSharedMemory(order.fd);
  // The process of pcap: the other one's descriptor is none of its own.
  const fd = openSync(`/proc/${order.pid}/fd/${order.fd}`, 'r+');
  try {
    return native().mapSharedMemory(fd);
  } finally {
    closeSync(fd);
  }
}
