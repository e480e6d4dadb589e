/** A page that takes long to write is written now and then only, however many ask for it. */

/** In UTF-16 units: what is smaller is written for everybody anew, in a millisecond or so. */
const LARGE = 256 * 1024;
/** Writing takes this part of the thread at most, … */
const SHARE = 1 / 10;
/** … and nobody gets what is older, in ms. */
const OLDEST_MS = 2000;

export class Rendered {
  readonly #render: () => string | Promise<string>;
  #text: string | undefined;
  #validUntil = 0;
  #underWay: Promise<string> | undefined;

  constructor(render: () => string | Promise<string>) {
    this.#render = render;
  }

  /** The page as it is now or, a large one, was a moment ago. Rejects with what `render` throws. */
  async text(): Promise<string> {
    if (this.#text !== undefined && performance.now() < this.#validUntil) return this.#text;
    // Those who ask while one is being written get that one: a burst of readers would write as many.
    this.#underWay ??= this.#write().finally(() => (this.#underWay = undefined));
    return this.#underWay;
  }

  async #write(): Promise<string> {
    const began = performance.now();
    const text = await this.#render();
    const now = performance.now();
    const isLarge = text.length > LARGE;
    this.#text = isLarge ? text : undefined;
    this.#validUntil = now + Math.min(OLDEST_MS, (now - began) / SHARE);
    return text;
  }
}
