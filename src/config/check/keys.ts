/** What the schema has to say about a file, in words that tell how to mend it. Never zod's own wording. */
import { z } from 'zod';
import { didYouMean, nearest, normal } from '../../suggest.ts';
import { formatPath, nearestNode, nodeAt, type TomlNode } from '../read/toml.ts';
import { fileSchema } from '../schema/file.ts';
import { type Home, homesOf } from '../schema/homes.ts';
import { anyOf, keyFacts } from '../schema/key.ts';
import { GOOD_NAME, isGoodName } from '../schema/names.ts';
import { childSchema, core, schemaAt } from '../schema/path.ts';
import { type Finding, show, warning } from './finding.ts';

/** Values of the wrong type or out of range, and missing keys: one finding a key, whatever zod found beside it. */
export function schemaFindings(root: TomlNode, issues: readonly z.core.$ZodIssue[]): Finding[] {
  const seen = new Set<string>();
  const first = issues.flatMap(ofTheKindGiven).filter(({ path }) => !seen.has(formatPath(path)) && seen.add(formatPath(path)));
  return first.map(({ path, ...issue }) => {
    const node = nodeAt(root, path);
    // What stands behind it may be well: what is allowed is the table's to say.
    if (issue.code === 'invalid_key' && node !== undefined)
      return {
        severity: 'error',
        path,
        position: node.keyAt,
        message: `not usable as a key here; allowed: ${allowedAt(path.slice(0, -1))}`,
      };
    const allowed = allowedAt(path);
    const position = (node ?? nearestNode(root, path)).at;
    const message = node && `${problemOf(node, issue)}; allowed: ${allowed}${near(node, path)}`;
    return { severity: 'error', path, position, message: message ?? `missing; needed: ${allowed}` };
  });
}

/** Where one of several kinds of value may stand: what is wrong with the one that does, if it is any of them. */
function ofTheKindGiven(issue: z.core.$ZodIssue): z.core.$ZodIssue[] {
  if (issue.code !== 'invalid_union') return [issue];
  const given =
    issue.errors.find((issues) => issues.some(({ path }) => path.length > 0)) ??
    issue.errors.find((issues) => issues.every(({ code }) => code !== 'invalid_type'));
  return given?.map((inner) => ({ ...inner, path: [...issue.path, ...inner.path] })) ?? [issue];
}

/** Keys that the schema does not know (warnings; errors of those that say who may connect), and names that are no names (errors). */
export function keyFindings(table: TomlNode, schema: z.core.$ZodType = fileSchema, path: readonly PropertyKey[] = []): Finding[] {
  if (table.kind !== 'table') return [];
  const isRecord = core(schema) instanceof z.ZodRecord;
  return [...table.children].flatMap(([name, node]) => {
    const here = [...path, name];
    const child = childSchema(schema, name);
    if (child === undefined) return unknownKey(here, node, schema);
    const below = keyFindings(node, child, here);
    return isRecord && !isGoodName(String(name)) ? [badName(here, node), ...below] : below;
  });
}

const LETS_IN = 'ignored, it would keep nobody out';

/** Of an unknown key, and of those below it. One that says who may connect is refused: to ignore it would let in whom it names. */
function unknownKey(path: readonly PropertyKey[], node: TomlNode, schema: z.core.$ZodType): Finding[] {
  const table = core(schema);
  if (!(table instanceof z.ZodObject)) return [];
  const name = String(path.at(-1));
  const known = Object.keys(table.shape);
  const isKnownHere = known.some((one) => normal(one) === normal(name));
  return isKnownHere || homesOf(name).length === 0
    ? [misspelt(path, node, table.shape), ...guardsBelow(path, node)]
    : [misplaced(path, node, homesOf(name)), ...guardsBelow(path, node)];
}

function misplaced(path: readonly PropertyKey[], node: TomlNode, homes: readonly Home[]): Finding {
  const [tables, keysOf] = [true, false].map((isTable) => homes.filter((home) => home.isTable === isTable).map(({ table }) => table));
  const place = [...(keysOf.length > 0 ? [`a key of ${anyOf(keysOf)}`] : []), ...tables].join(', or ');
  if (homes.some(({ guards }) => guards)) return refused(path, node, `unknown here; needed: ${place}; ${LETS_IN}`);
  return warning(node, path, `unknown here, ignored; it is ${place}`);
}

function misspelt(path: readonly PropertyKey[], node: TomlNode, shape: Readonly<Record<string, z.core.$ZodType>>): Finding {
  const known = Object.keys(shape);
  const near = nearest(String(path.at(-1)), known);
  const meant = near === undefined ? undefined : shape[near];
  const hint = near === undefined ? `known here: ${known.join(', ')}` : `did you mean ${JSON.stringify(near)}?`;
  if (meant !== undefined && keyFacts.get(meant)?.guards === true) return refused(path, node, `unknown key; ${hint} (${LETS_IN})`);
  return warning(node, path, `unknown key, ignored; ${hint}`);
}

/** In a table that nobody reads. */
function guardsBelow(path: readonly PropertyKey[], node: TomlNode): Finding[] {
  return [...node.children].flatMap(([name, child]) => {
    const [here, homes] = [[...path, name], homesOf(String(name))];
    return homes.some(({ guards }) => guards) ? [misplaced(here, child, homes)] : guardsBelow(here, child);
  });
}

function refused(path: readonly PropertyKey[], node: TomlNode, message: string): Finding {
  return { severity: 'error', path, position: node.keyAt, message };
}

function badName(path: readonly PropertyKey[], node: TomlNode): Finding {
  return { severity: 'error', path, position: node.keyAt, message: `not usable as a name; allowed: ${GOOD_NAME}` };
}

function allowedAt(path: readonly PropertyKey[]): string {
  const schema = schemaAt(path);
  return (schema && keyFacts.get(schema)?.allowed) ?? 'a table';
}

function problemOf(node: TomlNode, issue: { code: string; message: string }): string {
  if (node.kind === 'array') return node.children.size > 0 ? 'is an array' : 'is an empty array';
  if (node.kind === 'table') return 'is a table';
  return `${show(node.value)}${whatIsWrong(node.value, issue)}`;
}

function whatIsWrong(value: unknown, { code, message }: { code: string; message: string }): string {
  if (code === 'custom') return ` ${message}`;
  if (code === 'too_small') return ' is too small';
  if (code === 'too_big') return ' is too large';
  if (code === 'invalid_value' && typeof value === 'string') return ' is unknown';
  if (typeof value === 'string') return ' is a string';
  if (typeof value === 'boolean') return ' is a boolean';
  if (typeof value !== 'number') return 'is a date or time';
  if (!Number.isFinite(value)) return ' is not a finite number';
  return code === 'invalid_type' && !Number.isInteger(value) ? ' is not a whole number' : ' is a number';
}

/** A near miss among a key's few words. */
function near(node: TomlNode, path: readonly PropertyKey[]): string {
  const schema = schemaAt(path);
  const kind = schema && core(schema);
  const words = kind instanceof z.ZodUnion ? kind.options.find((option) => option instanceof z.ZodEnum) : kind;
  if (!(words instanceof z.ZodEnum) || typeof node.value !== 'string' || words.options.includes(node.value)) return '';
  return didYouMean(node.value, words.options.map(String));
}
