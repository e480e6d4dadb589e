/** Who is connected to what, read from shared memory while the workers forward: nobody is stopped, and nobody asked. */
import { setImmediate } from 'node:timers/promises';
import { bytesSince, idleOf } from '../flow/counts.ts';
import * as T from '../flow/life.ts';
import { byNumber } from '../flow/protocols.ts';
import * as C from '../layout/connection.ts';
import * as Flow from '../layout/flow.ts';
import type { Memory } from '../layout/memory.ts';
import { destinationPort, formatAddress, sourcePort } from '../packet/address.ts';
import { monotonicNow } from './duties.ts';
import { type FlowQuery, isClientOf } from './flow-query.ts';

/** Whom a connection is between. */
export interface FlowEnds {
  readonly protocol: string;
  /** "IP:PORT"; of a ping an address. */
  readonly client: string;
  readonly to: string;
  /** What the server sees, and where it is; undefined: nobody knows yet. */
  readonly via: string | undefined;
  readonly address: string | undefined;
}

/** A connection, or the flow of a client's datagrams, as a data path knows it. */
export interface CarriedFlow extends FlowEnds {
  /** Indexes; of a server none yet: -1. */
  readonly frontend: number;
  readonly server: number;
  readonly state: string;
  readonly bytesTx: number;
  readonly bytesRx: number;
  readonly idleMs: number;
}

/** Where such a connection is, for whoever ends it. */
export interface FlowPlace {
  readonly worker: number;
  readonly record: number;
  /** Of its client's flow. */
  readonly slot: number;
  readonly version: number;
}

/** Records that are looked at between two looks at the event loop: a millisecond or so. */
const SLICE = 1 << 15;

const STATES: Readonly<Record<number, string>> = {
  [T.OPENING]: 'opening',
  [T.ANSWERED]: 'answered',
  [T.ESTABLISHED]: 'established',
  [T.CLOSING]: 'closing',
  [T.TIME_WAIT]: 'time wait',
  [T.CLOSED]: 'closed',
};

/** All that fit, from the first worker's first record on; those that have ended (TIME_WAIT, closed) are none unless asked for. */
export async function* placesOf(memories: readonly Memory[], query: FlowQuery): AsyncGenerator<FlowPlace> {
  for (const [worker, { connections, flows }] of memories.entries()) {
    for (let r = 0, count = 0; r < connections.length; r += C.RECORD, count++) {
      if (count % SLICE === SLICE - 1) await setImmediate();
      const life = connections[r + C.LIFE];
      if (life === 0 || (query.ended !== true && (life & T.STATE_MASK) >= T.TIME_WAIT)) continue;
      const owner = connections[r + C.OWNER];
      if (query.frontends?.has(owner >>> 16) === false || query.servers?.has(owner & 0xffff) === false) continue;
      const slot = connections[r + C.FIRST];
      const at = slot << Flow.ENTRY_SHIFT;
      const state = flows[at + Flow.STATE];
      if ((state & Flow.PRESENCE) !== Flow.LIVE || flows[at + Flow.CONNECTION] !== r >>> C.RECORD_SHIFT) continue;
      if (query.client !== undefined && !isClientOf(query.client, flows, at, life)) continue;
      yield { worker, record: r >>> C.RECORD_SHIFT, slot, version: state >>> Flow.VERSION_SHIFT };
    }
  }
}

/** Whether that connection is still there. */
export function isThere({ flows }: Memory, { slot, version, record }: FlowPlace): boolean {
  const at = slot << Flow.ENTRY_SHIFT;
  const state = flows[at + Flow.STATE];
  return (state & Flow.PRESENCE) === Flow.LIVE && state >>> Flow.VERSION_SHIFT === version && flows[at + Flow.CONNECTION] === record;
}

/** Undefined where it has ended meanwhile. */
export function flowAt(memory: Memory, place: FlowPlace): CarriedFlow | undefined {
  const { flows, connections } = memory;
  const r = place.record << C.RECORD_SHIFT;
  const at = place.slot << Flow.ENTRY_SHIFT;
  const life = connections[r + C.LIFE];
  const owner = connections[r + C.OWNER];
  const second = connections[r + C.SECOND];
  const back = second === Flow.NONE ? undefined : second << Flow.ENTRY_SHIFT;
  const now = monotonicNow();
  const bytes = (from: number | undefined) => (from === undefined ? 0 : bytesSince(flows, from, 0));
  const isAnswer = (life & T.ANSWER_ONLY) !== 0;
  const flow = {
    ...endsAt(flows, at, life),
    frontend: owner >>> 16,
    server: owner & 0xffff,
    state: stateName(life),
    bytesTx: isAnswer ? 0 : bytes(at),
    bytesRx: isAnswer ? bytes(at) : bytes(back),
    idleMs: Math.min(idleOf(flows, at, now), back === undefined ? Number.POSITIVE_INFINITY : idleOf(flows, back, now)),
  };
  return isThere(memory, place) ? flow : undefined;
}

/** Of the connection with the LIFE word `life`, whose record names the flow at word `at` first. */
export function endsAt(flows: Int32Array, at: number, life: number): FlowEnds {
  const isAnswer = (life & T.ANSWER_ONLY) !== 0;
  const came = endpointsAt(flows, at + Flow.SOURCE, at);
  const isWrapped = (flows[at + Flow.STATE] & Flow.WRAPPED) !== 0;
  const leaves = isWrapped ? came : endpointsAt(flows, at + Flow.NEW_SOURCE, at);
  return {
    protocol: byNumber[protocolAt(flows, at)]?.name ?? '',
    client: isAnswer ? leaves.destination : came.source,
    to: isAnswer ? leaves.source : came.destination,
    via: isAnswer ? came.destination : leaves.source,
    address: isAnswer ? came.source : leaves.destination,
  };
}

function stateName(life: number): string {
  const state = life & T.STATE_MASK;
  if ((life & T.ANSWER_ONLY) !== 0) return 'awaits one answer';
  if ((life & T.DATAGRAM) !== 0) return (life & T.SPOKEN) === 0 ? 'unanswered' : 'answered';
  return STATES[state] ?? '';
}

function protocolAt(flows: Int32Array, at: number): number {
  return (flows[at + Flow.STATE] >>> Flow.PROTOCOL_SHIFT) & 0xff;
}

/** @param from the word of a source address, which destination and ports follow */
function endpointsAt(flows: Int32Array, from: number, at: number): { source: string; destination: string } {
  const ports = flows[from + 2];
  const hasPorts = byNumber[protocolAt(flows, at)]?.name !== 'icmp';
  const text = (address: number, port: number) => (hasPorts ? `${formatAddress(address)}:${port}` : formatAddress(address));
  return { source: text(flows[from], sourcePort(ports)), destination: text(flows[from + 1], destinationPort(ports)) };
}
