/** What reading a file of GLB's needs: values of a kind, and every mistake with its place. */
import { type Mistake, quote } from '../errors.ts';
import { didYouMean } from '../suggest.ts';
import { type JsonNode, readJson } from './json.ts';

/** The way to a value: `tables`, 0, `hash_key`. */
export type Path = readonly (string | number)[];

/** A value of a file, and the way to it. */
export interface Place {
  readonly file: string;
  readonly node: JsonNode;
  readonly path: Path;
}

/** Collects what is wrong with a file. */
export class Reader {
  readonly #mistakes: Mistake[] = [];
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  /** The file's value, an object; undefined where it is none. */
  open(text: string): Place | undefined {
    const node = readJson(text.replace(/^\uFEFF/, ''));
    if ('message' in node) {
      this.#mistakes.push({ severity: 'error', file: this.#file, path: '', ...node });
      return undefined;
    }
    const place = { file: this.#file, node, path: [] };
    if (node.kind === 'object') return place;
    this.error(place, 'is no object; needed: { … }');
    return undefined;
  }

  error(place: Place, message: string): void {
    this.#tell('error', place, message);
  }

  warning(place: Place, message: string): void {
    this.#tell('warning', place, message);
  }

  /** In the file's order. */
  get mistakes(): readonly Mistake[] {
    const start = { line: 0, column: 0 };
    return this.#mistakes.toSorted(({ position: a = start }, { position: b = start }) => a.line - b.line || a.column - b.column);
  }

  /** A member; undefined where there is none. */
  member({ file, node, path }: Place, name: string): Place | undefined {
    const child = node.children.get(name);
    return child && { file, node: child, path: [...path, name] };
  }

  /** A member of which `test` says that it is good; a mistake and undefined where it is not, or where there is none and one is needed. */
  read<T>(
    place: Place,
    name: string,
    allowed: string,
    test: (value: unknown) => value is T,
    { isNeeded = true, isSecret = false }: { readonly isNeeded?: boolean; readonly isSecret?: boolean } = {},
  ): T | undefined {
    const found = this.member(place, name);
    if (found === undefined) {
      if (isNeeded) this.error(place, `${name} is missing; needed: ${allowed}`);
      return undefined;
    }
    const { node } = found;
    if (node.kind === 'leaf' && test(node.value)) return node.value;
    const what = node.kind === 'leaf' ? leafText(node.value) : `an ${node.kind}`;
    this.error(found, `${isSecret ? 'this value' : what} is not good; allowed: ${allowed}`);
    return undefined;
  }

  /** The elements of a member that is an array, which must be there. */
  elements(place: Place, name: string, allowed: string): Place[] {
    const found = this.member(place, name);
    if (found?.node.kind !== 'array') {
      if (found === undefined) this.error(place, `${name} is missing; needed: ${allowed}`);
      else this.error(found, `is no array; needed: ${allowed}`);
      return [];
    }
    const elements = [...found.node.children].map(([i, node]) => ({ ...found, node, path: [...found.path, i] }));
    for (const element of elements) if (element.node.kind !== 'object') this.error(element, 'is no object; needed: { … }');
    return elements.filter(({ node }) => node.kind === 'object');
  }

  /** Warns of members that nobody reads. */
  onlyThese({ file, node, path }: Place, known: readonly string[]): void {
    for (const [name, child] of node.children)
      if (!known.includes(String(name)))
        this.warning({ file, node: child, path: [...path, name] }, `unknown key, ignored${didYouMean(String(name), known)}`);
  }

  #tell(severity: Mistake['severity'], { node, path }: Place, message: string): void {
    this.#mistakes.push({ severity, file: this.#file, position: node.at, path: formatPath(path), message });
  }
}

function leafText(value: unknown): string {
  return isText(value) ? quote(value) : String(value);
}

/** What may stand in a path without quotes. */
const BARE = /^[\w-]{1,60}$/;

/** `tables[0].hash_key`; a name that is more than a word is in quotes. */
export function formatPath(path: Path): string {
  return path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${BARE.test(part) ? part : quote(part)}`))
    .join('')
    .slice(path[0] === undefined ? 0 : 1);
}

export const isText = (value: unknown): value is string => typeof value === 'string';
export const isFlag = (value: unknown): value is boolean => typeof value === 'boolean';
export const isPort = (value: unknown): value is number => Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 65_535;
