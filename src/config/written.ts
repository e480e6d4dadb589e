/** What is in effect, as the text of a file. */
import type { Mistake } from '../errors.ts';
import type { Keys } from './effective.ts';
import { parseConfig } from './load.ts';
import type { Mode } from './modes.ts';

type Table = Readonly<Record<string, unknown>>;

/**
 * TOML of it, which lb4 takes without a warning: what has no effect there, and is there by default, is left out. A token is not shown, nor is
 * an address set where without one anybody could give orders.
 */
export function renderKeys({ control: { token, ...control }, ...keys }: Keys, mode: Mode | undefined): string {
  const shown = token === undefined ? control : { ...control, address: undefined, token_file: undefined };
  const secret = token === undefined ? '' : `# [control] address = ${quoted(control.address ?? '')}, with a token that is not shown here\n`;
  const all = linesOf([], { ...keys, control: shown });
  const idle = new Set(idleLines(all, mode));
  const lines = all.filter((_, i) => !idle.has(i + 1));
  return `${secret}${lines.join('\n').trim()}\n`;
}

/** From 1. */
function idleLines(lines: readonly string[], mode: Mode | undefined): number[] {
  const isIdle = ({ message }: Mistake) => /^has no effect|^only \w+ reads it/.test(message);
  const { warnings } = parseConfig(lines.join('\n'), '', { mode, unbounded: true });
  return warnings.filter(isIdle).flatMap(({ position }) => position?.line ?? []);
}

/** Keys before tables, as TOML wants them. */
function linesOf(path: readonly string[], table: Table): string[] {
  const entries = Object.entries(table).filter(([, value]) => value !== undefined);
  const leaves = entries.filter(([, value]) => !isTable(value));
  const head = path.length > 0 && (leaves.length > 0 || entries.length === 0) ? ['', `[${path.map(bare).join('.')}]`] : [];
  return [
    ...head,
    ...leaves.map(([key, value]) => `${bare(key)} = ${valueText(value)}`),
    ...entries.filter(([, value]) => isTable(value)).flatMap(([key, value]) => linesOf([...path, key], value as Table)),
  ];
}

function isTable(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function valueText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(valueText).join(', ')}]`;
  return typeof value === 'string' ? quoted(value) : String(value);
}

function bare(name: string): string {
  return /^[A-Za-z0-9_-]+$/.test(name) ? name : quoted(name);
}

/** A basic string (TOML 1.0): as JSON has them, and DEL as well. */
function quoted(text: string): string {
  return JSON.stringify(text).replaceAll('\x7f', '\\u007f');
}
