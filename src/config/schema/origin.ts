/** Whether a file is Convey's, and what follows from that. */
import { z } from 'zod';
import type { IcmpEcho } from '../model.ts';
import { fileSchema } from './file.ts';
import { keyFacts } from './key.ts';
import { childSchema } from './path.ts';

/** Where the statistics are where the file gives no address: Convey has them on all, and its readers may be elsewhere. */
const STATS = { convey: '0.0.0.0', lb4: '127.0.0.1' } as const;

/** @param file as it was read, whether good or not */
export function statsAddress(file: unknown): string {
  return STATS[hasOwnKey(file) ? 'lb4' : 'convey'];
}

/**
 * Who answers pings of a frontend's address where the file does not say: lb4 where the frontend names its protocol. In files that were
 * written before there was one the kernel does, as with Convey: to others a ping would fail when no server is up, and rules of theirs lack one.
 * @param file as it was read, whether good or not
 */
export function icmpEcho(file: unknown, frontend: string): IcmpEcho {
  const table = tableIn(tableIn(file, 'frontends'), frontend);
  return tableIn(table, 'protocol') === undefined ? 'kernel' : 'balancer';
}

function tableIn(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Object.entries(value).find(([key]) => key === name)?.[1] : undefined;
}

/** Whether any key of `file` is one that Convey does not know, and lb4 does. */
export function hasOwnKey(file: unknown, schema: z.core.$ZodType = fileSchema): boolean {
  if (typeof file !== 'object' || file === null || Array.isArray(file)) return false;
  return Object.entries(file).some(([name, value]) => {
    const child = childSchema(schema, name);
    return child !== undefined && (keyFacts.get(child)?.origin === 'lb4' || hasOwnKey(value, child));
  });
}
