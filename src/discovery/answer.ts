/** What a finder has found. */
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

/** Servers of one answer; the rest is left out. */
export const MOST_FOUND = 256;
