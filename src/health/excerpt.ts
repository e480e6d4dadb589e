import { quote } from '../errors.ts';

/** Of an answer's characters so many are told. */
const LONGEST = 40;

/** The beginning of what came from outside, for a terminal. */
export function excerpt(text: string): string {
  return quote(text.slice(0, LONGEST));
}
