/** What makes a key of the schema: a zod type, and beside it what people need to know about it. */
import { z } from 'zod';

/** What a reader needs to know about a key, beside its type. */
export interface KeyFacts {
  /** What may stand there, as messages and the reference say it. */
  readonly allowed: string;
  readonly description: string;
  readonly origin: 'convey' | 'lb4';
  /** What happens without the key, where no plain default value says it. */
  readonly otherwise?: string;
  /** It says who may connect: where nobody reads it, it is refused, and not ignored as other keys are. */
  readonly guards?: boolean;
}

/** The facts of every schema in the tree. */
export const keyFacts = z.registry<KeyFacts>();

/** How messages and the reference write an address and a port. */
export const ADDRESS = 'an IPv4 or IPv6 address and a port, "192.0.2.1:80" or "[2001:db8::1]:80"';

/** How long an open connection may be silent, where the file does not say: 2 h 4 min, RFC 5382 REQ-5. */
export const IDLE_SECONDS = 7440;

/** Where a key comes from. */
export const convey = { origin: 'convey' } as const;
export const lb4 = { origin: 'lb4' } as const;
/** And one that says who may connect. */
export const guard = { ...lb4, guards: true } as const;

/** Gives a type its facts. */
export function key<T extends z.ZodType>(schema: T, facts: KeyFacts): T {
  keyFacts.add(schema, facts);
  return schema;
}

/** `"a"`, `"a" or "b"`, `"a", "b" or "c"` */
export function oneOf(names: readonly string[]): string {
  return anyOf(names.map((name) => `"${name}"`));
}

/** `a`, `a or b`, `a, b or c` */
export function anyOf(words: readonly string[]): string {
  const last = words.at(-1) ?? '';
  return words.length < 2 ? last : `${words.slice(0, -1).join(', ')} or ${last}`;
}

/** A key that is on or off; off without it. */
export function flag(facts: Omit<KeyFacts, 'allowed'>) {
  return key(z.boolean().default(false), { allowed: 'true or false', ...facts });
}

/** A key that holds a whole number. */
export function whole(min: number, max: number, fallback: number, facts: Omit<KeyFacts, 'allowed'>) {
  const allowed = `a whole number, ${human(min)}–${human(max)}`;
  return key(z.int().min(min).max(max).default(fallback), { allowed, ...facts });
}

/** A key that holds seconds; decimals are welcome. */
export function seconds(min: number, max: number, fallback: number, facts: Omit<KeyFacts, 'allowed'>) {
  const allowed = `seconds, ${human(min)}–${human(max)}`;
  return key(z.number().min(min).max(max).default(fallback), { allowed, ...facts });
}

/** A string whose further demands `problem` names. */
export function checked(problem: (text: string) => string | undefined) {
  return z.string().superRefine((text, context) => {
    const message = problem(text);
    if (message !== undefined) context.addIssue({ code: 'custom', message });
  });
}

/** 65535, but 16,777,216. */
function human(number: number): string {
  // Not by toLocaleString: what it loads takes 30 ms of every start.
  return number < 100_000 ? String(number) : String(number).replace(/\B(?=(\d{3})+$)/g, ',');
}
