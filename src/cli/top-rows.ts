/** What `lb4 top` knows of a moment, and which servers it shows in which order. */
import type { Listing, Status } from '../control/listing.ts';
import { duration, short } from './columns.ts';
import { remarks, weightText } from './list.ts';
import { serverKey } from './rates.ts';

/** An answer of a running lb4; what the listing's totals were are rates. */
export interface Glance {
  readonly status: Status;
  readonly rates: Listing;
  readonly rows: readonly TopRow[];
}

/** A server, by one of its protocols. */
export interface TopRow {
  readonly key: string;
  readonly protocol: string;
  /** BACKEND/SERVER */
  readonly name: string;
  readonly address: string;
  /** As lb4 has it, with what speaks against a server that is up. */
  readonly state: string;
  readonly weight: number;
  readonly sessions: number;
  /** A second. */
  readonly opened: number;
  readonly bitsIn: number;
  readonly bitsOut: number;
  readonly why: string;
}

interface Column {
  readonly head: string;
  readonly isNumber?: boolean;
  /** What it is sorted by. */
  readonly value: (row: TopRow) => string | number;
  readonly text: (row: TopRow) => string;
}

/** One of its own beside the colour of each state, as on the dashboard (dashboard/table.js). */
const SIGNS: Readonly<Record<string, string>> = {
  up: '▲',
  down: '▼',
  drain: '◐',
  unknown: '?',
  damped: '≈',
  silent: '∅',
  'no way': '⊘',
};

export const COLUMNS: readonly Column[] = [
  { head: 'Prot', value: ({ protocol }) => protocol, text: ({ protocol }) => protocol },
  { head: 'Server', value: ({ name }) => name, text: ({ name }) => clean(name) },
  { head: 'Address', value: ({ address }) => address, text: ({ address }) => address },
  { head: 'State', value: ({ state }) => state, text: ({ state }) => `${SIGNS[state] ?? '?'} ${state}` },
  { head: 'Weight', isNumber: true, value: ({ weight }) => weight, text: ({ weight }) => weightText(weight) },
  { head: 'Sessions', isNumber: true, value: ({ sessions }) => sessions, text: ({ sessions }) => short(sessions) },
  { head: 'New/s', isNumber: true, value: ({ opened }) => opened, text: ({ opened }) => short(opened) },
  { head: 'In bit/s', isNumber: true, value: ({ bitsIn }) => bitsIn, text: ({ bitsIn }) => short(bitsIn) },
  { head: 'Out bit/s', isNumber: true, value: ({ bitsOut }) => bitsOut, text: ({ bitsOut }) => short(bitsOut) },
  { head: 'Last check', value: ({ why }) => why, text: ({ why }) => why },
];
/** The place of the state among them. */
export const STATE = COLUMNS.findIndex(({ head }) => head === 'State');

/** @param rates a listing whose totals are rates (ratesBetween) */
export function glanceOf(status: Status, rates: Listing): Glance {
  const rows = rates.backends.flatMap((backend) =>
    backend.servers.map((server): TopRow => {
      return {
        key: serverKey(backend, server),
        protocol: backend.protocol,
        name: `${backend.name}/${server.name}`,
        address: server.address,
        state: stateOf(server),
        weight: server.weight,
        sessions: server.current,
        opened: server.total,
        bitsIn: 8 * server.bytes_tx,
        bitsOut: 8 * server.bytes_rx,
        why: clean([remarks(server), checkText(server)].filter(Boolean).join('; ')),
      };
    }),
  );
  return { status, rates, rows };
}

type ServerListing = Listing['backends'][number]['servers'][number];

/** How it went, how long ago, and why. */
function checkText({ last_check: reason, last_check_result: result, last_check_age: age }: ServerListing): string {
  return result === null || age === null ? reason : `${result}, ${duration(age)} ago: ${reason}`;
}

function stateOf({ state, silent, damped, dead_ends: deadEnds }: ServerListing): string {
  if (state !== 'up') return damped ? 'damped' : state;
  if (silent) return 'silent';
  return deadEnds > 0 ? 'no way' : state;
}

/**
 * Rows in which each word of a filter is somewhere, in the order of a column; equal ones stay as they were.
 * @param column undefined: in the order of the file
 */
export function arranged(rows: readonly TopRow[], filter: string, column: number | undefined, isDown: boolean): readonly TopRow[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const kept = words.length === 0 ? rows : rows.filter((row) => isMeant(row, words));
  const by = column === undefined ? undefined : COLUMNS[column];
  if (by === undefined) return kept;
  const sign = isDown ? -1 : 1;
  return kept.toSorted((a, b) => sign * compare(by.value(a), by.value(b)));
}

function isMeant({ protocol, name, address, state, why }: TopRow, words: readonly string[]): boolean {
  const text = `${protocol} ${name} ${address} ${state} ${why}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

const COLLATOR = new Intl.Collator('en', { numeric: true });

function compare(a: string | number, b: string | number): number {
  return typeof a === 'number' && typeof b === 'number' ? a - b : COLLATOR.compare(String(a), String(b));
}

/** What servers and checks say goes to a terminal: it is to draw nothing there of its own. */
export function clean(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, '?');
}
