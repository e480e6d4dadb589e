/** Connections that have ended, as workers tell of them for the connection log (forward/endings.ts), in words. */
import * as T from '../flow/life.ts';
import * as E from '../forward/endings.ts';
import * as Flow from '../layout/flow.ts';
import { monotonicNow } from './duties.ts';
import { endsAt, type FlowEnds } from './flow-list.ts';

/** A connection, or the flow of a client's datagrams, that has ended. */
export interface EndedFlow extends FlowEnds {
  /** Indexes. */
  readonly frontend: number;
  readonly server: number;
  /** How, in a word. */
  readonly end: EndName;
  /** When that was told, in milliseconds since 1970. */
  readonly at: number;
  /** Milliseconds from its first packet to then; undefined: nobody here has seen that. And from its last one. */
  readonly ageMs: number | undefined;
  readonly quietMs: number;
  /** Payload bytes; undefined: they do not pass here. */
  readonly bytesTx: number | undefined;
  readonly bytesRx: number | undefined;
}

/** As they stand in a line of the log. */
export const NAMES = {
  [E.How.fin]: 'fin',
  [E.How.resetByClient]: 'reset-by-client',
  [E.How.resetByServer]: 'reset-by-server',
  [E.How.unanswered]: 'unanswered',
  [E.How.idle]: 'idle',
  [E.How.answered]: 'answered',
  [E.How.evicted]: 'made-way',
  [E.How.killed]: 'killed',
  [E.How.gone]: 'gone',
  [E.How.serverDown]: 'server-down',
  [E.How.replaced]: 'replaced',
} as const satisfies Record<E.How, string>;
export type EndName = (typeof NAMES)[E.How];

/** Of each row. */
export function endedFlows({ rows }: E.Endings): EndedFlow[] {
  const [now, wall] = [monotonicNow(), Date.now()];
  return Array.from({ length: rows.length / E.ROW }, (_, i) => flowIn(rows.subarray(i * E.ROW, (i + 1) * E.ROW), now, wall));
}

function flowIn(row: Float64Array, now: number, wall: number): EndedFlow {
  // As the flow stands in the table.
  const flow = Int32Array.from(row.subarray(E.FLOW, E.FLOW + E.FLOW_WORDS));
  const [life, owner, age] = [row[E.LIFE], row[E.OWNER], row[E.AGE]];
  return {
    ...endsAt(flow, Flow.STATE, life),
    frontend: owner >>> 16,
    server: owner & 0xffff,
    end: NAMES[row[E.HOW] as E.How],
    at: wall - Math.max(0, (now - row[E.AT]) | 0),
    ageMs: age < 0 ? undefined : age,
    quietMs: row[E.QUIET],
    // The datagram whose answer is awaited went without a flow; with direct server return answers do not come by.
    bytesTx: (life & T.ANSWER_ONLY) === 0 ? row[E.SENT] : undefined,
    bytesRx: (life & T.ONE_WAY) === 0 ? row[E.RECEIVED] : undefined,
  };
}
