/** What is in effect, as the text of a file. */
import type { Mistake } from '../errors.ts';
import type { Keys } from './effective.ts';
import { parseConfig } from './load.ts';
import type { Mode } from './modes.ts';

type Table = Readonly<Record<string, unknown>>;

/** What operators have set of a server at run time. */
export interface SetAtRunTime {
  /** As the file has them; a server that was found is named for its table and its address, `web@192.0.2.1:80`. */
  readonly backend: string;
  readonly server: string;
  readonly setting: { readonly state?: string | undefined; readonly weight?: number | undefined };
}

/** Comments below the heads of tables, by the path of the table. */
type Notes = ReadonlyMap<string, readonly string[]>;

/**
 * TOML of it, which lb4 takes without a warning: what has no effect there, and is there by default, is left out. A token is not shown, nor is
 * what would be refused without one. Secrets of GLB's tables are, and a comment says so: with others packets would go elsewhere than other balancers have them go.
 * What was set at run time stands there as comments.
 */
export function renderKeys(
  { control: { token, ...control }, ...keys }: Keys,
  mode: Mode | undefined,
  set: readonly SetAtRunTime[] = [],
): string {
  const shown = token === undefined ? control : { ...control, address: undefined, dashboard: undefined, token_file: undefined };
  const secret = token === undefined ? '' : `# [control] ${secretText(control)}, with a token that is not shown here\n`;
  const hasTable = Object.values(keys.backends).some(({ hash_key, seed }) => hash_key !== undefined || seed !== undefined);
  const all = linesOf([], { ...keys, backends: withoutRefused(keys.backends), control: shown }, notesOf(set));
  const idle = new Set(idleLines(all, mode));
  const lines = all.filter((_, i) => !idle.has(i + 1));
  return `${secret}${hasTable ? TABLES : ''}${lines.join('\n').trim()}\n`;
}

/** Who may read this may end connections as well; who gets to see it may not. */
const TABLES =
  "# hash_key and seed of GLB's tables are shown: without them these would be other tables. They are secrets: leave them out of what others get to see.\n";

/** The port of GUE has a default, and is refused where nothing is wrapped in it (config/check/wrapped.ts). */
function withoutRefused(backends: Keys['backends']): Table {
  return Object.fromEntries(
    Object.entries(backends).map(([name, table]) => [name, table.dsr === 'gue' ? table : { ...table, gue_port: undefined }]),
  );
}

function secretText({ address, dashboard }: Partial<Keys['control']>): string {
  const parts = [
    address === undefined ? undefined : `address = ${quoted(address)}`,
    dashboard === 'write' ? 'dashboard = "write"' : undefined,
  ];
  return parts.filter((part) => part !== undefined).join(' and ');
}

function notesOf(set: readonly SetAtRunTime[]): Notes {
  const notes = new Map<string, string[]>();
  for (const { backend, server, setting } of set) {
    const table = server.replace(/@.*/, '');
    const found = server === table ? '' : `${server}: `;
    const own = Object.entries(setting).filter(([, value]) => value !== undefined);
    const lines = own.map(([key, value]) => `# ${found}${key} ${value}: set at run time, by lb4 set or the dashboard`);
    const path = pathText(['backends', backend, 'servers', table]);
    notes.set(path, [...(notes.get(path) ?? []), ...lines]);
  }
  return notes;
}

/** From 1. */
function idleLines(lines: readonly string[], mode: Mode | undefined): number[] {
  const isIdle = ({ message }: Mistake) => /^has no effect|^only \w+ reads it/.test(message);
  const { warnings } = parseConfig(lines.join('\n'), '', { mode, unbounded: true });
  return warnings.filter(isIdle).flatMap(({ position }) => position?.line ?? []);
}

/** Keys before tables, as TOML wants them. */
function linesOf(path: readonly string[], table: Table, notes: Notes): string[] {
  const entries = Object.entries(table).filter(([, value]) => value !== undefined);
  const leaves = entries.filter(([, value]) => !isTable(value));
  const head = path.length > 0 && (leaves.length > 0 || entries.length === 0) ? ['', `[${pathText(path)}]`] : [];
  return [
    ...head,
    ...(notes.get(pathText(path)) ?? []),
    ...leaves.map(([key, value]) => `${bare(key)} = ${valueText(value)}`),
    ...entries.filter(([, value]) => isTable(value)).flatMap(([key, value]) => linesOf([...path, key], value as Table, notes)),
  ];
}

function pathText(path: readonly string[]): string {
  return path.map(bare).join('.');
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
