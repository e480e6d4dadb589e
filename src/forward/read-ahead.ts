/**
 * What the slow path looks at of a connection that exists: its record, and the flow of the other direction. In a table that no cache holds
 * each is a miss, one after the other; read for all frames of a batch before the first of them, they overlap. A batch without any pays nothing.
 */
import type { Records } from '../flow/records.ts';
import type { FlowTable } from '../flow/table.ts';
import * as Connection from '../layout/connection.ts';
import * as Flow from '../layout/flow.ts';
import * as Frame from '../layout/frames.ts';
import * as Field from '../packet/fields.ts';

/** Reads ahead for the frames at words `from` … `end` of the descriptors, whose homes stand there. */
export type ReadAhead = (from: number, end: number) => void;

export interface ReadAheadParts {
  readonly slab: Field.Slab;
  readonly frames: Int32Array;
  readonly table: FlowTable;
  readonly records: Records;
}

// Copied into this module: an imported binding is a load at each use (pipeline.ts).
const { HEADER, STRIDE, OFFSET, HOME, DETAIL, CONTROL, BATCH } = Frame;
const { ENTRY, ENTRY_SHIFT, READ_AHEAD, STATE, SOURCE, DESTINATION, PORTS, KEYED, LIVE, FAST, CONNECTION } = Flow;
const { IP_TTL, IP_SOURCE, IP_DESTINATION } = Field;
const { RECORD_SHIFT, LIFE, FIRST, SECOND } = Connection;

/** For a core's own batches. */
export function createReadAhead({ slab: { words }, frames, table, records }: ReadAheadParts): ReadAhead {
  const flow = table.words;
  const connections = records.words;
  /** Word indexes of the flows found, and of their records. */
  const flows = new Int32Array(BATCH);
  const owners = new Int32Array(BATCH);

  return function readAhead(from: number, end: number): void {
    let found = 0;
    let touched = 0;
    for (let f = from; f < end; f += STRIDE) {
      const home = frames[f + HOME];
      const isPlain = (frames[f + DETAIL] & CONTROL) === 0;
      if (isPlain && (flow[home + STATE] & FAST) !== 0) continue;
      const at = find(f, home);
      if (at < 0 || (isPlain && (flow[at + STATE] & FAST) !== 0)) continue;
      const record = flow[at + CONNECTION] << RECORD_SHIFT;
      touched ^= connections[record + LIFE];
      flows[found] = at;
      owners[found++] = record;
    }
    for (let i = 0; i < found; i++) {
      const first = connections[owners[i] + FIRST];
      const other = first === flows[i] >>> ENTRY_SHIFT ? connections[owners[i] + SECOND] : first;
      if (other >= 0) touched ^= flow[other << ENTRY_SHIFT];
    }
    frames[HEADER - 1] = touched; // so that the reads are not optimised away
  };

  /** The word index of a frame's flow where that is among what pass 2 has read, or -1. */
  function find(f: number, home: number): number {
    const ip = frames[f + OFFSET] >>> 2;
    const kind = LIVE | (words[ip + IP_TTL] & 0xff00);
    const ports = words[ip + (words[ip] & 0xf)];
    for (let at = home; at < home + READ_AHEAD * ENTRY; at += ENTRY) {
      if (
        (flow[at + STATE] & KEYED) === kind &&
        flow[at + SOURCE] === words[ip + IP_SOURCE] &&
        flow[at + PORTS] === ports &&
        flow[at + DESTINATION] === words[ip + IP_DESTINATION]
      )
        return at;
    }
    return -1;
  }
}
