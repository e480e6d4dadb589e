/** What a probe has to say. */
import type { Config } from '../config/model.ts';
import type { Mode } from '../config/modes.ts';
import type { Form } from '../rules/types.ts';
import type { Link, ServerPath } from './network.ts';

export type Level = 'ok' | 'warn' | 'fail';

export interface Finding {
  readonly level: Level;
  /** What was looked at: "route", "rp_filter" … */
  readonly check: string;
  readonly message: string;
  /** The command that mends it; words in capitals are the reader's to fill in. */
  readonly mend?: string;
}

/** What every probe looks at; read once. */
export interface Host {
  readonly mode: Mode;
  readonly config: Config;
  /** The interface of each address of this host. */
  readonly own: ReadonlyMap<string, string>;
  /** Every interface that carries a VIP or a source address, or leads to a server. */
  readonly links: readonly Link[];
  /** Of lb4's firewall rules: the one that this host needs. */
  readonly form: Form;
  /** One for every IPv4 server address. */
  readonly paths: readonly ServerPath[];
}

/** `1 worker`, `2 workers`. */
export function counted(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

export function ok(check: string, message: string): Finding {
  return { level: 'ok', check, message };
}

export function warn(check: string, message: string, mend?: string): Finding {
  return { level: 'warn', check, message, ...(mend === undefined ? {} : { mend }) };
}

export function fail(check: string, message: string, mend?: string): Finding {
  return { level: 'fail', check, message, ...(mend === undefined ? {} : { mend }) };
}
