import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { addressOf, readAddress } from '../../src/config/address.ts';
import { parseConfig } from '../../src/config/load.ts';
import type { Mode } from '../../src/config/modes.ts';
import { plainValue, readToml, type TomlNode } from '../../src/config/read/toml.ts';
import { fileSchema } from '../../src/config/schema/file.ts';
import { core } from '../../src/config/schema/path.ts';
import { ConfigError } from '../../src/errors.ts';
import { editDistance } from '../../src/suggest.ts';

const read = (name: string) => readFileSync(new URL(`../fixtures/${name}`, import.meta.url), 'utf8');
const seeds = ['convey/passthrough.toml', 'convey/proxy.toml', 'config/many-mistakes.toml', 'config/every-key.toml'].map(read);

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

const modes = fc.constantFrom<Mode | undefined>(undefined, 'proxy', 'passthrough', 'dsr');

const edit = fc.record({
  at: fc.nat(3000),
  remove: fc.nat(20),
  insert: fc.oneof(fc.constantFrom(...PIECES), fc.string({ unit: 'binary', maxLength: 4 })),
});

function mutate(text: string, edits: readonly { at: number; remove: number; insert: string }[]): string {
  return edits.reduce((mutated, { at, remove, insert }) => {
    const start = at % (mutated.length + 1);
    return mutated.slice(0, start) + insert + mutated.slice(start + remove);
  }, text);
}

function expectConfigOrMistakes(text: string, mode: Mode | undefined): void {
  try {
    expect(parseConfig(text, 'f', { mode }).config.frontends.length).toBeGreaterThan(0);
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
    fc.property(fc.constantFrom(...seeds), fc.array(edit, { minLength: 1, maxLength: 6 }), modes, (seed, edits, mode) =>
      expectConfigOrMistakes(mutate(seed, edits), mode),
    ),
    { numRuns: 1000 },
  );
});

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
  const everyKey = seeds[3];
  const replaced = fc.tuple(fc.nat(everyKey.match(/= .*/g)!.length - 1), values).map(([index, value]) => {
    let i = 0;
    return everyKey.replace(/= .*/g, (old) => (i++ === index ? `= ${value}` : old));
  });
  fc.assert(fc.property(replaced, modes, expectConfigOrMistakes), { numRuns: 1000 });
});

it('every-key.toml has every key', () => {
  const missing = (schema: z.core.$ZodType, value: unknown, path: string): string[] => {
    const table = core(schema);
    if (value === undefined) return [path];
    if (table instanceof z.ZodRecord) return missing(table.valueType, Object.assign({}, ...Object.values(value as object)), `${path}.NAME`);
    if (!(table instanceof z.ZodObject)) return [];
    // [glb] names files, which must be there (glb-plan.test.ts).
    const keys = Object.entries(table.shape).filter(([name]) => name !== 'glb');
    return keys.flatMap(([name, child]) => missing(child, (value as Record<string, unknown>)[name], `${path}.${name}`));
  };
  expect(missing(fileSchema, plainValue(readToml(seeds[3]) as TomlNode), '')).toEqual([]);
  // A connection log goes to one place.
  expect(parseConfig(seeds[3], 'f').warnings.map(({ path }) => path)).toEqual(['connection_log.syslog']);
});

it('an address is read exactly as it is written, and back', () => {
  const byte = fc.nat(255);
  fc.assert(
    fc.property(byte, byte, byte, byte, fc.integer({ min: 1, max: 65535 }), (a, b, c, d, port) => {
      const ip = `${a}.${b}.${c}.${d}`;
      const ipNumber = new DataView(Uint8Array.of(a, b, c, d).buffer).getUint32(0);
      expect(readAddress(`${ip}:${port}`)).toEqual({ text: `${ip}:${port}`, ip, family: 4, ipNumber, port });
    }),
  );
});

it('an IPv6 address has one text, however it is spelt, and the text is read back', () => {
  const group = fc.oneof(fc.constant(0), fc.nat(0xffff));
  const groups = fc.array(group, { minLength: 8, maxLength: 8 }).filter((list) => list.slice(0, 5).some((number) => number !== 0));
  fc.assert(
    fc.property(groups, fc.boolean(), (list, isPadded) => {
      const spelt = list.map((number) => (isPadded ? number.toString(16).padStart(4, '0').toUpperCase() : number.toString(16)));
      const address = addressOf(`[${spelt.join(':')}]:80`);
      expect(addressOf(address.text)).toEqual(address);
      expect(expand(address.ip)).toEqual(list);
    }),
  );
});

/** The eight numbers of an address without a dotted quad. */
function expand(ip: string): number[] {
  const [head = '', tail] = ip.split('::');
  const numbers = (text: string) => (text === '' ? [] : text.split(':').map((part) => Number.parseInt(part, 16)));
  if (tail === undefined) return numbers(head);
  const [first, last] = [numbers(head), numbers(tail)];
  return [...first, ...Array<number>(8 - first.length - last.length).fill(0), ...last];
}

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
