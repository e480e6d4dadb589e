/**
 * What frontends and servers have counted, by who they are and not by index: so the statistics of proxy mode pass from one lb4 to the next,
 * all of it at a takeover (handover.ts), and what the old one still counts while it drains bit by bit (afterwards.ts). In the packet
 * modes they are in the table.
 */
import { addTotals, NOTHING, type Totals } from '../control/source.ts';
import { ROOM } from '../layout/limits.ts';
import { frontendKey, type Members } from './members.ts';
import type { Plan } from './plan.ts';

export interface Counted extends Totals {
  readonly refused: number;
  readonly connectFailures: number;
  readonly retries: number;
}

/** Of one, or of all of a group that are gone: these have no key. */
export interface Line extends Counted {
  readonly key?: string | undefined;
  /** A server's backend; '' for frontends. */
  readonly group: string;
}

export interface Book {
  readonly frontends: readonly Line[];
  readonly servers: readonly Line[];
}

/** Of a data path. */
interface Counting {
  frontend(index: number): Known;
  server(index: number): Known;
  credit?(book: Book): Book;
}

/** Its counters, which may lack some. */
type Known = Totals & { readonly load: number } & { readonly [column in keyof Counted]?: number | undefined };

/** More lines than this no lb4 has: all that it has room for, and those that are gone. */
const LINES = ROOM.frontends + ROOM.servers + ROOM.backends + 1;

const NONE: Counted = { ...NOTHING, refused: 0, connectFailures: 0, retries: 0 };
const COLUMNS = Object.keys(NONE) as (keyof Counted)[];

/** All that has been counted so far. */
export function bookOf({ frontends, backends }: Plan, members: Members, path: Counting): Book {
  const frontend = (index: number) => path.frontend(index);
  const server = (index: number) => path.server(index);
  const goneFrontends = members.frontends.retired('', frontend, indexesOf(frontends));
  return {
    frontends: [
      { ...NONE, ...goneFrontends, group: '' },
      ...frontends.map((one) => ({ ...countedIn(frontend(one.index)), group: '', key: frontendKey(one.frontend) })),
    ],
    servers: backends.flatMap(({ backend: { name: group }, servers }) => [
      { ...NONE, ...members.servers.retired(group, server, indexesOf(servers)), group },
      ...servers.map(({ index, key }) => ({ ...countedIn(server(index)), group, key })),
    ]),
  };
}

/** Has what another lb4 counted count here, too: of who has left the file, for all that are gone; of a backend that has, not at all. */
export function addBook(book: Book, { backends }: Plan, members: Members, path: Pick<Counting, 'credit'>): void {
  const strangers = path.credit?.(book) ?? { frontends: [], servers: [] };
  for (const line of strangers.frontends) members.frontends.credit('', line);
  const groups = new Set(backends.map(({ backend }) => backend.name));
  for (const line of strangers.servers) if (groups.has(line.group)) members.servers.credit(line.group, line);
}

/** What has been counted since `before`; undefined where that is nothing. */
export function since(before: Book, { frontends, servers }: Book): Book | undefined {
  const grown = { frontends: grownSince(before.frontends, frontends), servers: grownSince(before.servers, servers) };
  return grown.frontends.length + grown.servers.length === 0 ? undefined : grown;
}

/** Whether another lb4, of whichever version, may say so. */
export function isBook(book: unknown): book is Book {
  const isSane = (line: Partial<Line> | null) =>
    typeof line?.group === 'string' && COLUMNS.every((column) => Number.isFinite(line[column]) && (line[column] ?? -1) >= 0);
  const { frontends, servers } = (book ?? {}) as Partial<Book>;
  return [frontends, servers].every((lines) => Array.isArray(lines) && lines.length <= LINES && lines.every(isSane));
}

export function addCounted(a: Counted, b: Counted): Counted {
  return {
    ...addTotals(a, b),
    refused: a.refused + b.refused,
    connectFailures: a.connectFailures + b.connectFailures,
    retries: a.retries + b.retries,
  };
}

function grownSince(before: readonly Line[], after: readonly Line[]): Line[] {
  const known = new Map(before.map((line) => [nameOf(line), line]));
  return after.flatMap((line) => {
    const last = known.get(nameOf(line)) ?? NONE;
    const grown = Object.fromEntries(COLUMNS.map((column) => [column, Math.max(0, line[column] - last[column])])) as unknown as Counted;
    return COLUMNS.some((column) => grown[column] > 0) ? [{ ...grown, group: line.group, key: line.key }] : [];
  });
}

function nameOf({ group, key }: Line): string {
  return JSON.stringify([group, key]);
}

function countedIn({ total, bytesTx, bytesRx, refused = 0, connectFailures = 0, retries = 0 }: Known): Counted {
  return { total, bytesTx, bytesRx, refused, connectFailures, retries };
}

export function indexesOf(planned: readonly { readonly index: number }[]): ReadonlySet<number> {
  return new Set(planned.map(({ index }) => index));
}
