/**
 * Lists of prefixes, merged into one table that says of each address which rule it comes under: disjoint ranges in their order, each with
 * its rule, and an index by the first bits of an address, so that a search has few of them to look at. 100,000 prefixes of IPv4 are
 * 1.1 MB and 30 ns (bench/access.ts). Made on the main thread, read by all workers at once: what replaces it is another one.
 */
import { type Family, maskOf, type PrefixList, WORDS } from './prefix-list.ts';

/** Plain data that crosses threads without a copy. */
export interface PrefixTable {
  readonly family: Family;
  /** The first address of each range, its words in host order. The first range begins at 0. */
  readonly starts: Uint32Array;
  /** The rule of each range. */
  readonly rules: Uint8Array;
  /** IPv4: by the first bits of an address, the range that the first such address is in; one more at the end. Of IPv6 there is none. */
  readonly index: Uint32Array;
  /** How far an address is shifted to the right for its place in the index. */
  readonly shift: number;
}

/** Rules that lists can be: whoever is in an earlier one of `deny` comes under that. */
export interface Rules {
  /** In one of these; undefined: all. */
  readonly allow: readonly PrefixList[] | undefined;
  readonly deny: readonly PrefixList[];
}

/** What {@link ruleOf} says. */
export const ADMITTED = 0;
/** There is a list of those allowed, and they are not in it. */
export const NOT_ALLOWED = 1;
/** In the first list of those denied; further ones follow. */
export const DENIED = 2;

/** Lists of those denied, at most: their rules have columns in the counters (layout/counters.ts). */
export const MOST_DENY = 5;

/** Bits of the largest index: 256 KB. */
const MOST_INDEX_BITS = 16;

/** The table of one family, or undefined where it would admit everybody. */
export function prefixTable(rules: Rules, family: Family): PrefixTable | undefined {
  const events = eventsOf(rules, family);
  const words = WORDS[family];
  const ranges = mergeRanges(events, words, rules.allow !== undefined);
  if (ranges.rules.every((rule) => rule === ADMITTED)) return undefined;
  const starts = shared(Uint32Array, ranges.starts);
  const bits = family === 4 ? Math.min(MOST_INDEX_BITS, Math.ceil(Math.log2(ranges.rules.length)) + 1) : 0;
  return { family, starts, rules: shared(Uint8Array, ranges.rules), index: indexOf(starts, bits), shift: 32 - bits };
}

export function tableBytes({ starts, rules, index }: PrefixTable): number {
  return starts.byteLength + rules.byteLength + index.byteLength;
}

/** The rule of an IPv4 address, unsigned and in host order. Allocates nothing. */
export function ruleOf({ starts, rules, index, shift }: PrefixTable, address: number): number {
  const place = shift === 32 ? 0 : address >>> shift;
  let low = index[place];
  let high = index[place + 1];
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if (starts[middle] <= address) low = middle;
    else high = middle - 1;
  }
  return rules[low];
}

/** The same of an IPv6 address, of four words. */
export function ruleOf6({ starts, rules }: PrefixTable, words: readonly number[]): number {
  let low = 0;
  let high = rules.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if (compare(starts, middle * 4, words, 0, 4) <= 0) low = middle;
    else high = middle - 1;
  }
  return rules[low];
}

/** Where rules begin and end, in the order of addresses: of each the words of the address, and whose (a rule, ~ of it where it ends). */
interface Events {
  readonly addresses: Uint32Array;
  readonly whose: Int8Array;
  /** Their order. */
  readonly order: Uint32Array;
}

function eventsOf({ allow, deny }: Rules, family: Family): Events {
  const words = WORDS[family];
  const lists = [...(allow ?? []).map((list) => ({ list, rule: NOT_ALLOWED })), ...deny.map((list, i) => ({ list, rule: DENIED + i }))];
  const most = 2 * lists.reduce((sum, { list }) => sum + list.of(family).bits.length, 0);
  const addresses = new Uint32Array(most * words);
  const whose = new Int8Array(most);
  let count = 0;
  for (const { list, rule } of lists) {
    const { firsts, bits } = list.of(family);
    for (let i = 0; i < bits.length; i++) {
      for (let w = 0; w < words; w++) addresses[count * words + w] = firsts[i * words + w];
      whose[count++] = rule;
      // Where it would be beyond the last address it never ends.
      if (writeEnd(addresses, count * words, words, firsts, i * words, bits[i])) whose[count++] = ~rule;
    }
  }
  return { addresses, whose, order: inOrder(addresses, words, count) };
}

/** Writes the address behind a prefix. False where there is none. */
function writeEnd(to: Uint32Array, at: number, words: number, firsts: readonly number[], from: number, bits: number): boolean {
  let carry = bits > 0;
  for (let w = words - 1; w >= 0; w--) {
    const mask = maskOf(bits - w * 32) >>> 0;
    // What is left of a word that the prefix ends in goes up by one of its last bit; those behind it are 0.
    const step = carry && mask !== 0 ? (w * 32 + 32 >= bits ? (~mask >>> 0) + 1 : 1) : 0;
    const sum = firsts[from + w] + step;
    to[at + w] = sum;
    carry = mask === 0 ? carry : sum > 0xffffffff;
  }
  return bits > 0 && !carry;
}

/** Events of IPv4 that are sorted as numbers, address and place in one: six times as fast as by comparing. */
const MOST_NUMBERED = 2 ** 21;

function inOrder(addresses: Uint32Array, words: number, count: number): Uint32Array {
  const order = new Uint32Array(count);
  if (words === 1 && count <= MOST_NUMBERED) {
    const numbered = new Float64Array(count);
    for (let i = 0; i < count; i++) numbered[i] = addresses[i] * MOST_NUMBERED + i;
    numbered.sort();
    for (let i = 0; i < count; i++) order[i] = numbered[i] % MOST_NUMBERED;
    return order;
  }
  for (let i = 0; i < count; i++) order[i] = i;
  return order.sort((a, b) => compare(addresses, a * words, addresses, b * words, words));
}

function compare(a: ArrayLike<number>, i: number, b: ArrayLike<number>, j: number, words: number): number {
  for (let w = 0; w < words; w++) if (a[i + w] !== b[j + w]) return a[i + w] < b[j + w] ? -1 : 1;
  return 0;
}

/** What lies between two events comes under the first rule that is open there. */
function mergeRanges({ addresses, whose, order }: Events, words: number, isClosed: boolean) {
  const open = new Int32Array(DENIED + MOST_DENY);
  const starts: number[] = [];
  const rules: number[] = [];
  const note = (rule: number, address: (w: number) => number): void => {
    if (rules.at(-1) === rule) return;
    for (let w = 0; w < words; w++) starts.push(address(w));
    rules.push(rule);
  };
  if (order.length === 0 || compare(addresses, order[0] * words, ZERO, 0, words) > 0) note(ruleNow(open, isClosed), () => 0);
  for (let i = 0; i < order.length; ) {
    const first = order[i] * words;
    for (; i < order.length && compare(addresses, order[i] * words, addresses, first, words) === 0; i++) {
      const rule = whose[order[i]];
      if (rule < 0) open[~rule]--;
      else open[rule]++;
    }
    note(ruleNow(open, isClosed), (w) => addresses[first + w]);
  }
  return { starts, rules };
}

const ZERO = [0, 0, 0, 0];

function ruleNow(open: Int32Array, isClosed: boolean): number {
  for (let rule = DENIED; rule < open.length; rule++) if (open[rule] > 0) return rule;
  return isClosed && open[NOT_ALLOWED] === 0 ? NOT_ALLOWED : ADMITTED;
}

function indexOf(starts: Uint32Array, bits: number): Uint32Array {
  const size = 2 ** bits;
  const index = shared(Uint32Array, { length: size + 1 });
  let range = 0;
  for (let place = 0; place < size; place++) {
    const first = place * 2 ** (32 - bits);
    while (range + 1 < starts.length && starts[range + 1] <= first) range++;
    index[place] = range;
  }
  index[size] = starts.length - 1;
  return index;
}

function shared<T extends Uint32Array | Uint8Array>(
  Type: { readonly BYTES_PER_ELEMENT: number; new (buffer: SharedArrayBuffer): T },
  values: ArrayLike<number>,
): T {
  const array = new Type(new SharedArrayBuffer(values.length * Type.BYTES_PER_ELEMENT));
  if (0 in values) array.set(values);
  return array;
}
