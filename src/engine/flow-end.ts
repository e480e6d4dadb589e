/** Connections that are ended by order: their workers take them out of the table, and both ends of TCP get a reset from here. */
import { setTimeout } from 'node:timers/promises';
import { bytesOf } from '../flow/counts.ts';
import * as T from '../flow/life.ts';
import { native } from '../io/native.ts';
import * as C from '../layout/connection.ts';
import * as Flow from '../layout/flow.ts';
import type { Memory } from '../layout/memory.ts';
import { swap32, swapPorts } from '../packet/address.ts';
import { RESET_LENGTH, writeReset } from '../packet/build.ts';
import { RST, slabOf, TCP } from '../packet/fields.ts';
import { type FlowPlace, isThere, placesOf } from './flow-list.ts';
import type { FlowQuery } from './flow-query.ts';
import { type EndRecords, ORDER } from './messages.ts';

export interface Ended {
  readonly ended: number;
  /** Of these, those of TCP of which both ends were sent a reset. */
  readonly reset: number;
}

export interface EnderParts {
  /** One a worker. */
  readonly memories: readonly Memory[];
  readonly postTo: (worker: number, message: EndRecords) => void;
  /** This host has ways to clients and servers. */
  readonly canReset: boolean;
}

/** Of all workers, at a time: a worker takes a millisecond or two for as many. */
const BATCH = 4096;
/** In ms: a worker that hangs is not waited for longer. */
const PATIENCE = 2000;
const LOOK_MS = 5;
/** The word of the IP header in a slab with room for what stands before it. */
const IP = 8;

/** Ends all that fit, a batch after the other. Rejects with the system's error where resets cannot be sent: then the batch has ended, without. */
export async function endFlows(parts: EnderParts, query: FlowQuery): Promise<Ended> {
  let [ended, reset] = [0, 0];
  let batch: FlowPlace[] = [];
  const flush = async () => {
    const one = await endBatch(parts, batch);
    ended += one.ended;
    reset += one.reset;
    batch = [];
  };
  for await (const place of placesOf(parts.memories, query)) if (batch.push(place) === BATCH) await flush();
  if (batch.length > 0) await flush();
  return { ended, reset };
}

async function endBatch({ memories, postTo, canReset }: EnderParts, places: readonly FlowPlace[]): Promise<Ended> {
  // Before they go: after that nobody knows the numbers.
  const resets = places.map((place) => (canReset ? resetsOf(memories[place.worker], place) : []));
  memories.forEach((_, worker) => {
    const own = places.filter((place) => place.worker === worker);
    if (own.length > 0) postTo(worker, { type: 'end', records: ordersOf(own) });
  });
  const isLeft = (place: FlowPlace) => isThere(memories[place.worker], place);
  for (const until = performance.now() + PATIENCE; performance.now() < until && places.some(isLeft); ) await setTimeout(LOOK_MS);
  const gone = resets.filter((_, i) => !isLeft(places[i]));
  send(gone.flat());
  return { ended: gone.length, reset: gone.filter((one) => one.length === 2).length };
}

/** Of each what {@link EndRecords} has. */
export function ordersOf(places: readonly FlowPlace[]): Int32Array {
  const records = new Int32Array(places.length * ORDER);
  places.forEach(({ record, slot, version }, i) => records.set([record, slot, version], i * ORDER));
  return records;
}

/**
 * For each end of an established connection that this host reaches, by the numbers that the other one is about to send (flow.ts: ORIGIN). Where
 * more is in flight its receiver asks back, and is answered by a reset like whoever has no connection.
 */
function resetsOf({ flows, connections }: Memory, { record, slot }: FlowPlace): Uint8Array[] {
  const r = record << C.RECORD_SHIFT;
  const at = slot << Flow.ENTRY_SHIFT;
  const life = connections[r + C.LIFE];
  const state = life & T.STATE_MASK;
  const isTcp = ((flows[at + Flow.STATE] >>> Flow.PROTOCOL_SHIFT) & 0xff) === TCP;
  if (!isTcp || (state !== T.ESTABLISHED && state !== T.CLOSING)) return [];
  const second = connections[r + C.SECOND];
  // Direct server return: what the server sends nobody has seen, but the client has acknowledged it.
  const fromServer = second === Flow.NONE ? flows[at + Flow.ACKNOWLEDGED] : nextOf(flows, second << Flow.ENTRY_SHIFT, life & T.FIN_SERVER);
  const [client, vip] = [flows[at + Flow.SOURCE], flows[at + Flow.DESTINATION]];
  const toClient = resetPacket(vip, client, swapPorts(flows[at + Flow.PORTS]), fromServer);
  const server = flows[at + Flow.NEW_DESTINATION];
  // Its address is this host's as well (dsr = "l2", "gue", "ipip"): the kernel would keep it.
  if (server === vip || (flows[at + Flow.STATE] & Flow.WRAPPED) !== 0) return [toClient];
  return [toClient, resetPacket(flows[at + Flow.NEW_SOURCE], server, flows[at + Flow.NEW_PORTS], nextOf(flows, at, life & T.FIN_CLIENT))];
}

/** The number that the side of the flow at word `at` sends next, as in a packet. */
function nextOf(flows: Int32Array, at: number, hasFinished: number): number {
  const origin = flows[at + Flow.ORIGIN];
  return swap32(hasFinished === 0 ? (origin + bytesOf(flows, at)) | 0 : (origin + 1) | 0);
}

function resetPacket(source: number, destination: number, ports: number, sequence: number): Uint8Array {
  const slab = slabOf(new ArrayBuffer(IP * 4 + RESET_LENGTH));
  writeReset(slab, IP, source, destination, ports, RST, sequence, 0);
  return slab.bytes.subarray(IP * 4);
}

function send(packets: readonly Uint8Array[]): void {
  if (packets.length === 0) return;
  const all = new Uint8Array(packets.length * RESET_LENGTH);
  packets.forEach((packet, i) => all.set(packet, i * RESET_LENGTH));
  native().sendPackets(all.buffer, RESET_LENGTH);
}
