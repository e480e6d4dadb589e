/** Of an answer's characters so many are told. */
const LONGEST = 40;

/** The beginning of what came from outside, as a JSON text: without characters that a terminal would obey, C1 and DEL too. */
export function excerpt(text: string): string {
  const start = JSON.stringify(text.slice(0, LONGEST));
  return start.replaceAll(/[\x7f-\x9f]/g, (one) => `\\u00${one.charCodeAt(0).toString(16)}`);
}
