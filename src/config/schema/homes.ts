/** Where in a file each key has its place, by its name: for one that stands in a table that does not read it. */
import { z } from 'zod';
import { normal } from '../../suggest.ts';
import { fileSchema } from './file.ts';
import { keyFacts } from './key.ts';
import { core } from './path.ts';

export interface Home {
  /** `[backends.NAME.servers.NAME]`: its table; of what is a table itself that one. */
  readonly table: string;
  readonly isTable: boolean;
  /** It says who may connect. */
  readonly guards: boolean;
}

let all: Map<string, Home[]> | undefined;

/** All places of a key of that name, in the schema's order; case and dashes do not count. */
export function homesOf(name: string): readonly Home[] {
  all ??= collect(fileSchema, '', new Map());
  return all.get(normal(name)) ?? [];
}

function collect(schema: z.core.$ZodType, title: string, found: Map<string, Home[]>): Map<string, Home[]> {
  const table = core(schema);
  if (table instanceof z.ZodUnion) for (const option of table.options) collect(option, title, found);
  if (table instanceof z.ZodRecord) collect(table.valueType, `${title}.NAME`, found);
  if (!(table instanceof z.ZodObject)) return found;
  for (const [name, child] of Object.entries(table.shape)) {
    const own = title === '' ? name : `${title}.${name}`;
    const kind = core(child);
    const isTable = kind instanceof z.ZodObject || kind instanceof z.ZodRecord;
    const [home, guards] = [isTable ? titleOf(kind, own) : title, keyFacts.get(child)?.guards === true];
    found.set(normal(name), [...(found.get(normal(name)) ?? []), { table: `[${home}]`, isTable, guards }]);
    collect(child, own, found);
  }
  return found;
}

function titleOf(table: z.core.$ZodType, title: string): string {
  return table instanceof z.ZodRecord ? `${title}.NAME` : title;
}
