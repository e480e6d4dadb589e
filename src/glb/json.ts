/** JSON text as a tree that remembers where every value stood. */
import { messageOf, type Position, quote } from '../errors.ts';

export interface JsonNode {
  /** Of a string, number, boolean or null. */
  readonly value: unknown;
  readonly kind: 'object' | 'array' | 'leaf';
  readonly at: Position;
  /** Of an object by their names (of one that stands twice the last), of an array by their indexes. */
  readonly children: ReadonlyMap<string | number, JsonNode>;
}

/** Where and why a text is not JSON. */
export interface SyntaxMistake {
  readonly position: Position | undefined;
  readonly message: string;
}

/** Reads JSON (RFC 8259). A text that is none gives the first mistake. */
export function readJson(text: string): JsonNode | SyntaxMistake {
  try {
    JSON.parse(text);
    return new Walker(text).tree();
  } catch (error) {
    // Both call themselves for every level of nesting.
    if (error instanceof RangeError) return { position: undefined, message: 'arrays or objects are nested too deeply' };
    const [at] = /(?<=position )\d+/.exec(messageOf(error)) ?? [];
    const position = at === undefined ? new Walker(text).stop() : positionOf(text, Number(at));
    return { position, message: `not valid JSON: ${reasonOf(messageOf(error))}` };
  }
}

/** A token and the white space before it. */
const TOKEN = /[ \t\r\n]*(?:[{}[\]:,]|"(?:[^"\\]|\\.)*"|[^\s"{}[\]:,]+)/y;

/** V8's, without the place and the text around it, which may be a key. */
function reasonOf(message: string): string {
  return message.replace(/( in JSON at position|, (\.\.\.)?").*$/s, '').replace(/(?<=')\p{C}(?=')/u, (one) => quote(one).slice(1, -1));
}

/** Goes through a text that is known to be good, or as far as it is. */
class Walker {
  readonly #text: string;
  #offset = 0;
  #last = '';
  /** Of the token that was read last, or one before it. */
  #line = 1;
  #lineStart = 0;
  /** Looked for once a line: each look goes through all of what is left, where that is one. */
  #lineEnd: number;

  constructor(text: string) {
    this.#text = text;
    this.#lineEnd = this.#endOf(0);
  }

  tree(): JsonNode {
    return this.#node(this.#next());
  }

  /** Where a value is none. */
  stop(): Position | undefined {
    try {
      this.tree();
      return undefined;
    } catch (error) {
      return error instanceof RangeError ? undefined : this.#position(this.#last);
    }
  }

  #node(token: string): JsonNode {
    const at = this.#position(token);
    if (token === '[') return { kind: 'array', value: undefined, at, children: this.#elements() };
    if (token === '{') return { kind: 'object', value: undefined, at, children: this.#members() };
    return { kind: 'leaf', value: JSON.parse(token) as unknown, at, children: new Map() };
  }

  #elements(): Map<number, JsonNode> {
    const children = new Map<number, JsonNode>();
    for (let token = this.#next(); token !== ']' || children.size > 0; token = this.#next()) {
      children.set(children.size, this.#node(token));
      if (this.#next() === ']') break;
    }
    return children;
  }

  #members(): Map<string, JsonNode> {
    const children = new Map<string, JsonNode>();
    for (let token = this.#next(); token !== '}'; token = this.#next()) {
      if (token === ',') continue;
      this.#next(); // :
      children.set(JSON.parse(token) as string, this.#node(this.#next()));
    }
    return children;
  }

  #next(): string {
    TOKEN.lastIndex = this.#offset;
    const token = TOKEN.exec(this.#text)?.[0] ?? '';
    this.#offset += token.length;
    this.#last = token.trimStart();
    return this.#last;
  }

  /** Of the token that was read last. */
  #position(token: string): Position {
    const start = this.#offset - token.length;
    while (this.#lineEnd < start) {
      this.#line++;
      this.#lineStart = this.#lineEnd + 1;
      this.#lineEnd = this.#endOf(this.#lineStart);
    }
    return { line: this.#line, column: start - this.#lineStart + 1 };
  }

  #endOf(lineStart: number): number {
    const end = this.#text.indexOf('\n', lineStart);
    return end < 0 ? this.#text.length : end;
  }
}

function positionOf(text: string, offset: number): Position {
  const before = text.slice(0, offset).split('\n');
  return { line: before.length, column: (before.at(-1) ?? '').length + 1 };
}
