import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { readAddress } from '../../src/config/address.ts';
import { parseConfig } from '../../src/config/load.ts';
import { editDistance } from '../../src/config/suggest.ts';
import { ConfigError } from '../../src/errors.ts';

const read = (name: string) => readFileSync(new URL(`../fixtures/config/${name}`, import.meta.url), 'utf8');
const seeds = ['convey-passthrough.toml', 'convey-proxy.toml', 'many-mistakes.toml'].map(read);

const PIECES = [
  '"',
  "'",
  '[',
  ']',
  '[[',
  '{',
  '}',
  '=',
  '.',
  ',',
  '\n',
  '#',
  '\\',
  '0',
  '-1',
  'nan',
  'true',
  '1979-05-27',
  '__proto__',
  'constructor',
  'frontends',
  'servers',
];
const ZOD_WORDING = /invalid input|expected .* received|unrecognized|too (big|small):/i;

const edit = fc.record({
  at: fc.nat(2000),
  remove: fc.nat(20),
  insert: fc.oneof(fc.constantFrom(...PIECES), fc.string({ unit: 'binary', maxLength: 4 })),
});

function mutate(text: string, edits: readonly { at: number; remove: number; insert: string }[]): string {
  return edits.reduce((mutated, { at, remove, insert }) => {
    const start = at % (mutated.length + 1);
    return mutated.slice(0, start) + insert + mutated.slice(start + remove);
  }, text);
}

function expectConfigOrMistakes(text: string): void {
  try {
    expect(parseConfig(text, 'f').config.frontends.length).toBeGreaterThan(0);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    expect(error.mistakes.some(({ severity }) => severity === 'error')).toBe(true);
    for (const { message, position } of error.mistakes) {
      expect(message).not.toMatch(ZOD_WORDING);
      expect(position?.line).toBeGreaterThan(0);
      expect(position?.column).toBeGreaterThan(0);
    }
  }
}

it('a mutated file gives a configuration or a ConfigError, never anything else', () => {
  fc.assert(
    fc.property(fc.constantFrom(...seeds), fc.array(edit, { minLength: 1, maxLength: 6 }), (seed, edits) =>
      expectConfigOrMistakes(mutate(seed, edits)),
    ),
    { numRuns: 1000 },
  );
}, 60_000);

it('so does any value in the place of any other', () => {
  const values = fc.constantFrom(
    '1',
    '-1',
    '1.5',
    'inf',
    'true',
    '""',
    '"x"',
    '[]',
    '[[1]]',
    '{}',
    '{ a = 1 }',
    '07:32:00',
    '2026-01-01T00:00:00Z',
  );
  const replaced = fc.tuple(fc.nat(30), values).map(([index, value]) => {
    let i = 0;
    return seeds[1].replace(/= .*/g, (old) => (i++ === index ? `= ${value}` : old));
  });
  fc.assert(fc.property(replaced, expectConfigOrMistakes), { numRuns: 300 });
}, 60_000);

it('an address is read exactly as it is written, and back', () => {
  const byte = fc.nat(255);
  fc.assert(
    fc.property(byte, byte, byte, byte, fc.integer({ min: 1, max: 65535 }), (a, b, c, d, port) => {
      const ip = `${a}.${b}.${c}.${d}`;
      const ipNumber = new DataView(Uint8Array.of(a, b, c, d).buffer).getUint32(0);
      expect(readAddress(`${ip}:${port}`)).toEqual({ text: `${ip}:${port}`, ip, ipNumber, port });
    }),
  );
});

it('edit distance is a metric on short words', () => {
  const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 6 });
  fc.assert(
    fc.property(word, word, (a, b) => {
      const distance = editDistance(a, b);
      expect(distance).toBe(editDistance(b, a));
      expect(distance === 0).toBe(a === b);
      expect(distance).toBeGreaterThanOrEqual(Math.abs(a.length - b.length));
      expect(distance).toBeLessThanOrEqual(Math.max(a.length, b.length));
    }),
  );
});
