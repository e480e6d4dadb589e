/** What keys make of the screen of `lb4 top`. */
import { COLUMNS, type TopRow } from './top-rows.ts';

/** What of the servers is shown, as the user wants it. */
export interface TopView {
  /** Words that each row shown has. */
  readonly filter: string;
  /** The filter is being typed. */
  readonly isTyping: boolean;
  /** Sorted by; undefined: the order of the file. */
  readonly column: number | undefined;
  readonly isDown: boolean;
  /** The row that is marked, by its key, and where it was last. */
  readonly selected: string | undefined;
  readonly place: number;
}

export const FIRST_VIEW: TopView = { filter: '', isTyping: false, column: undefined, isDown: false, selected: undefined, place: 0 };

/** As node:readline tells of it. */
export interface Key {
  readonly name?: string | undefined;
  readonly ctrl?: boolean | undefined;
  readonly meta?: boolean | undefined;
  /** What was typed; undefined: nothing that could be printed. */
  readonly text?: string | undefined;
}

const MOST_FILTER = 100;

/**
 * Undefined: it is to end.
 * @param rows those shown, in their order
 * @param page how many the screen has
 */
export function press(view: TopView, key: Key, rows: readonly TopRow[], page: number): TopView | undefined {
  if (key.ctrl === true && (key.name === 'c' || key.name === 'd')) return undefined;
  if (view.isTyping) return type(view, key, rows, page);
  const step = STEPS[key.name ?? ''];
  if (step !== undefined) return move(view, step(page), rows);
  if (key.name === 'escape') return { ...view, filter: '' };
  switch (key.text) {
    case 'q':
      return undefined;
    case '/':
      return { ...view, isTyping: true };
    case 'r':
      return { ...view, isDown: !view.isDown };
    default:
      return sortBy(view, key.name);
  }
}

/** By how many rows; the first and the last are infinitely far. */
const STEPS: Readonly<Record<string, (page: number) => number>> = {
  up: () => -1,
  down: () => 1,
  k: () => -1,
  j: () => 1,
  pageup: (page) => -page,
  pagedown: (page) => page,
  home: () => Number.NEGATIVE_INFINITY,
  end: () => Number.POSITIVE_INFINITY,
};

function move(view: TopView, by: number, rows: readonly TopRow[]): TopView {
  const place = Math.max(0, Math.min(rows.length - 1, placeOf(view, rows) + by));
  return { ...view, place, selected: rows[place]?.key };
}

/** Where the marked row is now; where it was, if it has gone. */
export function placeOf({ selected, place }: TopView, rows: readonly TopRow[]): number {
  const now = selected === undefined ? -1 : rows.findIndex(({ key }) => key === selected);
  return now >= 0 ? now : Math.max(0, Math.min(place, rows.length - 1));
}

/** Left and right, through the file's order as well, which comes before the first column. Numbers begin with the largest. */
function sortBy(view: TopView, name: string | undefined): TopView {
  const by = name === 'left' ? -1 : name === 'right' ? 1 : 0;
  if (by === 0) return view;
  const places = COLUMNS.length + 1;
  const next = ((view.column ?? -1) + 1 + by + places) % places;
  const column = next === 0 ? undefined : next - 1;
  return { ...view, column, isDown: column !== undefined && COLUMNS[column]?.isNumber === true };
}

function type(view: TopView, key: Key, rows: readonly TopRow[], page: number): TopView {
  const step = key.text === undefined ? STEPS[key.name ?? ''] : undefined;
  if (step !== undefined) return move(view, step(page), rows);
  if (key.name === 'return' || key.name === 'enter') return { ...view, isTyping: false };
  if (key.name === 'escape') return { ...view, isTyping: false, filter: '' };
  if (key.name === 'backspace') return { ...view, filter: [...view.filter].slice(0, -1).join('') };
  if (key.ctrl === true && key.name === 'u') return { ...view, filter: '' };
  const isText = key.text !== undefined && key.ctrl !== true && key.meta !== true && !/\p{Cc}/u.test(key.text);
  return isText ? { ...view, filter: (view.filter + key.text).slice(0, MOST_FILTER) } : view;
}
