/** The screen of `lb4 top`, as lines, and the same as plain text. */
import type { Listing } from '../control/listing.ts';
import { columns, duration, short } from './columns.ts';
import { placeOf, type TopView } from './top-keys.ts';
import { arranged, COLUMNS, clean, type Glance, STATE, type TopRow } from './top-rows.ts';

export interface Screen {
  readonly width: number;
  readonly height: number;
  /** The terminal has them, and the user wants them. */
  readonly hasColours: boolean;
}

/** Beside the sign that each state has: SGR of ECMA-48. */
const COLOURS: Readonly<Record<string, number>> = { up: 32, down: 31, drain: 33, unknown: 36, damped: 35, silent: 31, 'no way': 31 };
const REVERSE = 7;
const BOLD = 1;
const HELP = '↑↓ move  ←→ sort  r reverse  / filter  q quit';
/** Drops and refusals that are named. */
const MOST_VERDICTS = 6;

/** One table, and all there is to know above it. */
export function topText(glance: Glance): string {
  const rows = glance.rows.map((row) => COLUMNS.map(({ text }) => text(row)));
  const right = new Set([...COLUMNS.keys()].filter((i) => COLUMNS[i]?.isNumber === true));
  return `${headLines(glance).join('\n')}\n\n${columns([COLUMNS.map(({ head }) => head), ...rows], right)}`;
}

/** How many rows of servers there is room for. */
export function pageOf(glance: Glance, screen: Screen, notice: string | undefined): number {
  // Beside them: the column heads, the marked row in full, keys.
  return Math.max(0, screen.height - headLines(glance, notice).length - 3);
}

/**
 * As many lines as the screen has at most, none wider than it. Only rows that are seen are made.
 * @param notice what is wrong with the last answer
 */
export function topLines(glance: Glance, view: TopView, screen: Screen, notice?: string): string[] {
  const rows = arranged(glance.rows, view.filter, view.column, view.isDown);
  const place = placeOf(view, rows);
  const page = pageOf(glance, screen, notice);
  const first = Math.max(0, Math.min(place - Math.floor(page / 2), rows.length - page));
  const seen = rows.slice(first, first + page);
  const lines = [
    ...headLines(glance, notice).map((line) => cut(line, screen.width)),
    ...table(seen, view, place - first, screen),
    ...Array.from({ length: page - seen.length }, () => ''),
    cut(rows[place] === undefined ? 'no server fits' : `${rows[place].name} ${rows[place].address}: ${rows[place].why}`, screen.width),
    cut(foot(view, rows.length, glance.rows.length), screen.width),
  ];
  // Of a screen that is too low the keys go last.
  return lines.slice(0, screen.height);
}

function headLines({ status, rates }: Glance, notice?: string): string[] {
  const states = Object.entries(status.servers).filter(([, count]) => count > 0);
  const { totals, packets } = rates;
  const problems = [
    notice,
    status.stopping ? 'it stops: no new connections are taken' : undefined,
    status.reload.last_error === null ? undefined : `the last reload was not taken: ${status.reload.last_error}`,
    ...status.host,
  ];
  return [
    `lb4 ${status.version}, ${status.mode}, up ${duration(status.uptime)}; servers: ${states.map(([state, count]) => `${count} ${state}`).join(', ') || 'none'}`,
    [
      `${short(totals.current)} connections`,
      `${short(totals.total)} new/s`,
      `${short(8 * totals.bytes_tx)} bit/s in`,
      `${short(8 * totals.bytes_rx)} bit/s out`,
      ...(packets === null ? [] : [`${short(packets.received)} packets/s`]),
    ].join(', '),
    ...(packets === null ? [] : [`dropped or refused a second: ${refusedText(packets)}`]),
    ...problems.flatMap((problem) => (problem === undefined ? [] : [`! ${clean(problem)}`])),
  ];
}

function refusedText({ refused }: NonNullable<Listing['packets']>): string {
  const seen = Object.entries(refused)
    .filter(([, count]) => count > 0)
    .toSorted(([, a], [, b]) => b - a);
  const named = seen.slice(0, MOST_VERDICTS).map(([name, count]) => `${name} ${short(Math.max(1, count))}`);
  return seen.length === 0 ? 'none' : `${named.join(', ')}${seen.length > MOST_VERDICTS ? ' …' : ''}`;
}

function table(rows: readonly TopRow[], view: TopView, marked: number, { width, hasColours }: Screen): string[] {
  const heads = COLUMNS.map(({ head }, i) => (i === view.column ? `${head}${view.isDown ? '↓' : '↑'}` : head));
  const cells = rows.map((row) => COLUMNS.map(({ text }) => text(row)));
  // With room for the arrow: a table does not move when it is sorted.
  const widths = COLUMNS.map(({ head }, i) => Math.max(head.length + 1, ...cells.map((row) => row[i]?.length ?? 0)));
  const padded = (row: readonly string[]) =>
    row.map((cell, i) => (COLUMNS[i]?.isNumber === true ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)));
  return [
    styled(cut(padded(heads).join(' ').trimEnd(), width), BOLD),
    ...cells.map((row, i) => {
      const whole = cut(padded(row).join(' ').trimEnd(), width);
      if (i === marked) return styled(whole.padEnd(width), REVERSE);
      return hasColours ? colouredState(whole, widths, row[STATE] ?? '', rows[i]?.state ?? '') : whole;
    }),
  ];
}

/** The state in its colour, as far as the line has it. */
function colouredState(line: string, widths: readonly number[], text: string, state: string): string {
  const from = widths.slice(0, STATE).reduce((sum, width) => sum + width + 1, 0);
  const colour = COLOURS[state];
  const part = line.slice(from, from + text.length);
  return colour === undefined || part === '' ? line : line.slice(0, from) + styled(part, colour) + line.slice(from + text.length);
}

function foot(view: TopView, shown: number, all: number): string {
  const count = shown === all ? `${all} servers` : `${shown} of ${all} servers`;
  if (view.isTyping) return `/${view.filter}_  (${count}; Enter keeps it, Esc drops it)`;
  return [count, ...(view.filter === '' ? [] : [`filter: ${view.filter} (Esc drops it)`]), HELP].join('  ');
}

function styled(text: string, style: number): string {
  return `\u001b[${style}m${text}\u001b[0m`;
}

function cut(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}${width > 0 ? '…' : ''}`;
}
