import fc from 'fast-check';
import { expect, test } from 'vitest';
import { addressOf, isAny } from '../../src/config/address.ts';
import { clashes } from '../../src/config/check/clashes.ts';
import type { Place } from '../../src/config/check/places.ts';
import type { TomlNode } from '../../src/config/read/toml.ts';

/** The places of a file with one address in each line. `looked` is told each time that an address is looked at. */
function placesOf(texts: readonly string[], looked: () => void = () => {}): Place[] {
  return texts.map((text, index) => {
    const at = { line: index + 1, column: 1 };
    const node: TomlNode = { kind: 'leaf', value: text, children: new Map(), keyAt: at, at };
    const address = addressOf(text);
    return {
      name: text,
      owner: `line ${at.line}`,
      node,
      path: [],
      get address() {
        looked();
        return address;
      },
    };
  });
}

/** What the rule says, word by word: each address against all earlier ones. */
function pairwise(places: readonly Place[]): string[] {
  return places.flatMap(({ address: late, node }, index) => {
    const early = places.slice(0, index).find(({ address }) => {
      return address.family === late.family && address.port === late.port && (address.ip === late.ip || isAny(address) || isAny(late));
    });
    return early === undefined ? [] : [`${node.at.line}: taken by ${early.owner}`];
  });
}

test('finds what a comparison of all pairs finds, in its order', () => {
  const address = fc
    .tuple(fc.constantFrom('0.0.0.0', '192.0.2.1', '192.0.2.2', '[::]', '[2001:db8::1]', '[::1]'), fc.constantFrom(80, 81))
    .map(([ip, port]) => `${ip}:${port}`);
  fc.assert(
    fc.property(fc.array(address, { maxLength: 12 }), (texts) => {
      const places = placesOf(texts);
      const found = clashes(places).map(({ position, message }) => `${position.line}: ${/taken by line \d+/.exec(message)?.[0]}`);
      expect(found).toEqual(pairwise(places));
    }),
    { numRuns: 500 },
  );
});

test('looks at each of many addresses with one port a few times, not once for every other', () => {
  const count = 4096;
  let looks = 0;
  const places = placesOf(
    Array.from({ length: count }, (_, i) => `10.0.${i >> 8}.${i & 255}:80`),
    () => looks++,
  );
  expect(clashes(places)).toEqual([]);
  expect(looks).toBeLessThanOrEqual(10 * count);
});
