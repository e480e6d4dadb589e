/** What a finder has found. */
import { addressOf } from '../config/address.ts';
import type { Address } from '../config/model.ts';

/** A server, before it has a name. */
export interface Found {
  readonly addr: Address;
  /** Times the template's; 0–65535. */
  readonly weight: number;
  readonly backup: boolean;
}

export interface Answer {
  readonly found: readonly Found[];
  /** How long it holds, in milliseconds: then it is asked for again. */
  readonly holdsMs: number;
}

/** As plain data, for a next process: questions and their last answers. */
export type Answers = readonly (readonly [question: string, found: readonly Found[]])[];

/** The same in a text that `JSON.stringify` has made of them. Throws where it is anything else: it stood in a file. */
export function answersIn(text: string): Answers {
  return listIn(JSON.parse(text)).map((row) => {
    const [question, found] = listIn(row);
    return [String(question), listIn(found).map(foundIn)] as const;
  });
}

function listIn(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw new TypeError(`${JSON.stringify(value)} is no list`);
  return value as readonly unknown[];
}

function foundIn(value: unknown): Found {
  const { addr, weight, backup } = (value ?? {}) as Partial<Found>;
  if (typeof weight !== 'number' || typeof backup !== 'boolean') throw new TypeError(`${JSON.stringify(value)} is no server`);
  return { addr: addressOf(String(addr?.text)), weight, backup };
}

/** Servers of one answer; the rest is left out. */
export const MOST_FOUND = 256;
