/** TOML text as a tree that remembers where every key and value stood. */
import { type AST, ParseError, parseTOML } from 'toml-eslint-parser';
import type { Position } from '../../errors.ts';

type Key = string | number;

/** A table and an array have children (an array's keys are its indices); a leaf has a value. */
export interface TomlNode {
  readonly kind: 'table' | 'array' | 'leaf';
  /** A leaf's string, number, boolean or Date. */
  readonly value: unknown;
  readonly children: Map<Key, TomlNode>;
  /** Of the last part of its key. */
  keyAt: Position;
  /** Of the value; of the opening bracket for a table. */
  at: Position;
}

/** Where and why a text is not TOML. */
export interface SyntaxMistake {
  readonly position: Position;
  readonly message: string;
}

/** Reads TOML 1.0. A text that is not TOML gives the first mistake: after it, the parser cannot tell what follows. */
export function readToml(text: string): TomlNode | SyntaxMistake {
  try {
    return treeOf(parseTOML(text.replace(/^\uFEFF/, ''), { tomlVersion: '1.0.0' }));
  } catch (error) {
    return syntaxMistake(error, text);
  }
}

/** The node at a path, or undefined. */
export function nodeAt(root: TomlNode, path: readonly PropertyKey[]): TomlNode | undefined {
  let node: TomlNode | undefined = root;
  for (const key of path) node = node?.children.get(key as Key);
  return node;
}

/** The node at a path, or the nearest one above it that exists. */
export function nearestNode(root: TomlNode, path: readonly PropertyKey[]): TomlNode {
  let node = root;
  for (const key of path) {
    const child = node.children.get(key as Key);
    if (child === undefined) break;
    node = child;
  }
  return node;
}

/**
 * The tree as plain objects, arrays and values. A key `__proto__` becomes a property like any other. A date becomes null, which
 * no key takes: zod would let the Date pass for a table.
 */
export function plainValue(node: TomlNode): unknown {
  if (node.kind === 'leaf') return node.value instanceof Date ? null : node.value;
  const entries = [...node.children].map(([key, child]): [Key, unknown] => [key, plainValue(child)]);
  return node.kind === 'table' ? Object.fromEntries(entries) : entries.map(([, value]) => value);
}

/** The path as one would write it in TOML. */
export function formatPath(path: readonly PropertyKey[]): string {
  return path.map((key) => (/^[\w-]+$/.test(String(key)) ? String(key) : JSON.stringify(key))).join('.');
}

function treeOf(program: AST.TOMLProgram): TomlNode {
  const root = newNode('table', { line: 1, column: 1 });
  for (const statement of program.body[0].body) {
    if (statement.type === 'TOMLTable') addTable(root, statement);
    else addKeyValue(root, statement);
  }
  return root;
}

/** Parts in one key, and levels of inline nesting: deeper ones would exhaust the stack of whoever walks the tree. */
const DEEPEST = 32;

function limitDepth(depth: number): void {
  if (depth > DEEPEST) throw new RangeError('too deep');
}

function addTable(root: TomlNode, table: AST.TOMLTable): void {
  limitDepth(table.resolvedKey.length);
  const written = table.key.keys.map((key) => positionOf(key));
  let node = root;
  let depth = 0;
  for (const key of table.resolvedKey) {
    // An index of [[…]] has no key of its own: it stands where its array's name does.
    const at = typeof key === 'number' ? written[depth - 1] : written[depth++];
    node = childTable(node, key, at);
  }
  node.at = positionOf(table);
  node.keyAt = written[depth - 1];
  for (const pair of table.body) addKeyValue(node, pair);
}

function addKeyValue(table: TomlNode, pair: AST.TOMLKeyValue, depth = 0): void {
  limitDepth(pair.key.keys.length);
  const parents = pair.key.keys.slice(0, -1);
  const last = pair.key.keys[parents.length];
  const parent = parents.reduce((node, key) => childTable(node, keyName(key), positionOf(key)), table);
  parent.children.set(keyName(last), contentNode(pair.value, positionOf(last), depth + 1));
}

function childTable(parent: TomlNode, key: Key, at: Position): TomlNode {
  const known = parent.children.get(key);
  if (known !== undefined) return known;
  // Tables under an [[array]] have numbers for keys, so their parent, made a moment ago as a table, is an array.
  if (typeof key === 'number') (parent as { kind: TomlNode['kind'] }).kind = 'array';
  const child = newNode('table', at);
  parent.children.set(key, child);
  return child;
}

function contentNode(content: AST.TOMLContentNode, keyAt: Position, depth: number): TomlNode {
  limitDepth(depth);
  const at = positionOf(content);
  if (content.type === 'TOMLValue') return { ...newNode('leaf', at, content.value), keyAt };
  const node = { ...newNode(content.type === 'TOMLArray' ? 'array' : 'table', at), keyAt };
  if (content.type === 'TOMLInlineTable') for (const pair of content.body) addKeyValue(node, pair, depth);
  else content.elements.forEach((element, i) => node.children.set(i, contentNode(element, positionOf(element), depth + 1)));
  return node;
}

function newNode(kind: TomlNode['kind'], at: Position, value?: unknown): TomlNode {
  return { kind, value, children: new Map(), keyAt: at, at };
}

function keyName(key: AST.TOMLBare | AST.TOMLQuoted): string {
  return key.type === 'TOMLBare' ? key.name : key.value;
}

function positionOf({ loc: { start } }: AST.TOMLNode): Position {
  return { line: start.line, column: start.column + 1 };
}

function syntaxMistake(error: unknown, text: string): SyntaxMistake {
  if (error instanceof ParseError) {
    const position = { line: error.lineNumber, column: error.column + 1 };
    return { position, message: syntaxMessage(error, text) };
  }
  // limitDepth's, or the parser's own: it calls itself for every level of nesting.
  if (error instanceof RangeError) return { position: { line: 1, column: 1 }, message: 'arrays or tables are nested too deeply' };
  throw error;
}

function syntaxMessage(error: ParseError, text: string): string {
  if (error.message.startsWith('Defining a key multiple times')) {
    const key = /^[\w-]+|^"[^"\n]*"|^'[^'\n]*'/.exec(text.slice(error.index))?.[0];
    return `${key ?? 'this key'} is defined a second time`;
  }
  const message = `not valid TOML: ${error.message.charAt(0).toLowerCase()}${error.message.slice(1)}`;
  return isUnquoted(text, error) ? `${message} (text stands in quotes: "…")` : message;
}

/** Whether the mistake lies in a value that looks as if its quotes had been forgotten: an address, a name. */
function isUnquoted(text: string, { index }: ParseError): boolean {
  const start = text.lastIndexOf('\n', index - 1) + 1;
  const line = text.slice(start, start + 200).split('\n', 1)[0];
  return /^[^#"'=]*=\s*(?!true\b|false\b)[\w./][^\s"'[\]{}=#]*[.:/a-z_-][^\s"'[\]{}=#]*\s*(#.*)?$/i.test(line);
}
