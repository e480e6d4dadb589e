const MAX_LENGTH = 200;

/** Remembers the last line of some output that says something, at most its first 200 characters. */
export class LastLine {
  #whole = '';
  #begun = '';

  add(text: string): void {
    const lines = (this.#begun + text).split('\n').map((line) => line.slice(0, MAX_LENGTH));
    this.#begun = lines.pop() ?? '';
    this.#whole = lines.findLast(saysSomething) ?? this.#whole;
  }

  /** Without control characters: it goes to a log and, perhaps, a terminal. */
  get text(): string {
    const line = saysSomething(this.#begun) ? this.#begun : this.#whole;
    return line.replaceAll(/\p{Cc}+/gu, ' ').trim();
  }
}

function saysSomething(line: string): boolean {
  return line.trim() !== '';
}
