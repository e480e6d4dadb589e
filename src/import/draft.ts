/** A configuration in the making, that knows which line of another program's each part comes from. */

export interface Line {
  /** From 1. */
  readonly number: number;
  readonly words: readonly string[];
  /** Where it is not the file that is read. */
  readonly file?: string;
}

export type Value = string | number | boolean | readonly string[];

export interface Table {
  readonly path: readonly string[];
  readonly from: Line;
  readonly keys: Map<string, Given>;
}

/** A value, and where it stood. */
export interface Given {
  readonly value: Value;
  readonly from: Line;
}

/** A line, or a part of it, that could not be carried over. */
export interface Lost {
  /** As a line's. */
  readonly file?: string | undefined;
  readonly line: number;
  readonly text: string;
  readonly why: string;
}

export class Draft {
  readonly tables: Table[] = [];
  readonly lost: Lost[] = [];

  table(path: readonly string[], from: Line): Table {
    const table: Table = { path, from, keys: new Map() };
    this.tables.push(table);
    return table;
  }

  /** @param text the whole line without it */
  lose(line: Line, why: string, text = line.words.join(' ')): void {
    this.lost.push({ file: line.file, line: line.number, text, why });
  }
}
