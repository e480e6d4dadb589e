/** HAProxy's lines (configuration manual, sections 2.2 and 2.5). */
import type { Line } from './draft.ts';

/** The lines that have words. */
export function readLines(text: string): Line[] {
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/);
  return lines.map((line, i): Line => ({ number: i + 1, words: wordsOf(line) })).filter(({ words }) => words.length > 0);
}

/** A word: pieces in quotes, escaped characters, or plain ones. */
const WORD = /(?:"(?:\\.|[^"\\])*"?|'[^']*'?|\\.|[^\s"'\\#])+|#.*/g;
const PIECE = /"((?:\\.|[^"\\])*)"?|'([^']*)'?|\\(.)/g;
const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };

function wordsOf(line: string): string[] {
  const words = [...line.matchAll(WORD)].map(([word]) => word).filter((word) => !word.startsWith('#'));
  return words.map((word) =>
    word.replaceAll(PIECE, (_, weak?: string, strong?: string, escaped?: string) => {
      if (weak !== undefined) return weak.replaceAll(/\\(.)/g, (_all, char: string) => unescaped(char));
      return strong ?? unescaped(escaped ?? '');
    }),
  );
}

function unescaped(char: string): string {
  return ESCAPES[char] ?? char;
}

const UNITS: Readonly<Record<string, number>> = { us: 1e-6, ms: 1e-3, s: 1, m: 60, h: 3600, d: 86_400 };

/** Seconds (section 2.5: without a unit these are milliseconds); undefined for what is no time. */
export function secondsOf(text: string | undefined): number | undefined {
  const [, number, unit = 'ms'] = /^(\d+)(us|ms|s|m|h|d)?$/.exec(text ?? '') ?? [];
  if (number === undefined) return undefined;
  return Math.round(Number(number) * (UNITS[unit] ?? 0) * 1e6) / 1e6;
}

/** `$NAME` or `${NAME}` (section 2.3), which is known only where HAProxy runs. */
export function isFromEnvironment(text: string): boolean {
  return /\$\{?[A-Za-z_]/.test(text);
}

/** Why a word that has to be a number or a time is none. */
export function whyUnread(text: string | undefined): string {
  return text !== undefined && isFromEnvironment(text) ? FROM_ENVIRONMENT : 'is not understood';
}

export const FROM_ENVIRONMENT = 'lb4 takes no values from the environment: write it out';

/** A whole number; undefined for anything else. */
export function numberOf(text: string | undefined): number | undefined {
  return /^\d+$/.test(text ?? '') ? Number(text) : undefined;
}
