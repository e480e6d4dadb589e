/** Who may import whom: docs/architecture.md. An arrow never runs up, and no two rooms import each other. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const SRC = fileURLToPath(new URL('../../src', import.meta.url));
const CORE = ['layout', 'packet', 'flow', 'balance', 'forward'];

/** The rooms each room may import, directly: the drawing's arrows, and what lies below their heads. */
const ALLOWED: Record<string, readonly string[]> = {
  // What threads, processes, C++ and BPF share: every room may know it.
  layout: [],
  packet: ['layout'],
  flow: ['layout', 'packet'],
  balance: [],
  forward: ['layout', 'flow', 'packet', 'balance'],
  io: ['layout', 'packet'],
  engine: ['layout', 'forward', 'flow', 'packet', 'io', 'balance'],
  control: [],
  health: ['layout', 'config'],
  // Of io only the addon's face: it listens (last test of this file).
  proxy: ['layout', 'packet', 'config', 'balance', 'io'],
  // Of io only the addon's rtnetlink: which form the rules need here.
  rules: ['layout', 'packet', 'config', 'io'],
  config: ['layout', 'packet', 'balance'],
  // Not in the design's drawing: a running lb4, held together; cli starts it.
  service: ['layout', 'control', 'engine', 'packet', 'io', 'balance', 'health', 'proxy', 'rules', 'config'],
  cli: ['service', 'rules', 'doctor', 'config', 'io'],
  // Not in the design's drawing: looks at the host for `lb4 doctor`, and asks the addon (io/native) what it can do.
  doctor: ['layout', 'packet', 'rules', 'config', 'io'],
  main: ['cli', 'config'],
};
/** The floors inside config, folders and the files at its top (src/config/README.md). */
const CONFIG: Record<string, readonly string[]> = {
  read: [],
  address: [],
  model: ['address'],
  restart: ['model'],
  schema: ['model', 'address'],
  check: ['read', 'schema', 'model', 'address'],
  load: ['check', 'read', 'schema', 'model'],
  watch: ['read'],
  reference: ['schema', 'restart'],
};
/** Files beside the rooms that any room outside the core may use. */
const COMMON = ['errors', 'errno', 'log', 'ip'];

interface Import {
  readonly file: string;
  readonly room: string;
  readonly specifier: string;
  /** The room imported, or undefined for a library. */
  readonly target: string | undefined;
}

const roomOf = (path: string) => relative(SRC, path).split('/')[0].replace(/\.ts$/, '');

const imports: Import[] = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .flatMap((name) => {
    const file = join(SRC, name);
    const text = readFileSync(file, 'utf8').replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
    const specifiers = [...text.matchAll(/(?:\bfrom\s*|\bimport\s*\(?\s*)(['"])([^'"]+)\1/g)].map((match) => match[2]);
    return specifiers.map((specifier) => ({
      file: name,
      room: roomOf(file),
      specifier,
      target: specifier.startsWith('.') ? roomOf(join(dirname(file), specifier)) : undefined,
    }));
  });

/** The floor of config that a path is on; undefined outside config. */
const floorOf = (path: string) => /^config\/(\w+)/.exec(relative(SRC, path))?.[1];

const tell = ({ file, specifier }: Import) => `${file} imports ${specifier}`;

test('every room is in the drawing', () => {
  const rooms = new Set(imports.map(({ room }) => room).filter((room) => !COMMON.includes(room)));
  expect([...rooms].filter((room) => !(room in ALLOWED))).toEqual([]);
  expect(imports.length).toBeGreaterThan(100);
});

test('an arrow never runs up', () => {
  const wrong = imports.filter(({ room, target }) => {
    if (target === undefined || target === room || COMMON.includes(room)) return false;
    return !(ALLOWED[room] ?? []).includes(target) && (CORE.includes(room) || !COMMON.includes(target));
  });
  expect(wrong.map(tell)).toEqual([]);
});

test('they import no room, but ip packet/address.ts', () => {
  const wrong = imports.filter(({ room, target }) => COMMON.includes(room) && target !== undefined && !COMMON.includes(target));
  expect(wrong.map(tell)).toEqual(['ip.ts imports ./packet/address.ts']);
});

test('no two rooms import each other', () => {
  const arrows = new Set(
    imports.filter(({ room, target }) => target !== undefined && target !== room).map(({ room, target }) => `${room} ${target}`),
  );
  expect([...arrows].filter((arrow) => arrows.has(arrow.split(' ').reverse().join(' ')))).toEqual([]);
});

describe('the packet core', () => {
  test.each(CORE)('%s imports no node:* and no library', (room) => {
    expect(imports.filter((i) => i.room === room && i.target === undefined).map(tell)).toEqual([]);
  });

  test.each(CORE)('%s has no promise, no timer, no console', (room) => {
    for (const name of readdirSync(join(SRC, room), { recursive: true, encoding: 'utf8' })) {
      const code = readFileSync(join(SRC, room, name), 'utf8').replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
      expect(code, name).not.toMatch(/\b(async|await|Promise|setTimeout|setInterval|console|Buffer|process\.)\b/);
    }
  });
});

describe('config', () => {
  const arrows = imports.flatMap((i) => {
    const target = i.target === 'config' ? floorOf(join(SRC, dirname(i.file), i.specifier)) : undefined;
    return target === undefined ? [] : [{ ...i, from: floorOf(join(SRC, i.file)), to: target }];
  });

  test('every floor is in its README, and an arrow never runs up', () => {
    const floors = readdirSync(join(SRC, 'config')).flatMap((name) => floorOf(join(SRC, 'config', name)) ?? []);
    expect(floors.filter((floor) => floor !== 'README').toSorted()).toEqual(Object.keys(CONFIG).toSorted());
    const wrong = arrows.filter(({ from, to }) => from !== undefined && from !== to && !CONFIG[from]?.includes(to));
    expect(wrong.map(tell)).toEqual([]);
  });

  test('strangers see its top alone', () => {
    const wrong = arrows.filter(({ from, to }) => from === undefined && ['read', 'schema', 'check'].includes(to));
    expect(wrong.map(tell)).toEqual([]);
  });
});

test('the text of an IPv4 address is taken apart in one place, and told apart from others in one more', () => {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  const parsing = files.filter((name) => /\.split\((['"`])\.\1\)/.test(readFileSync(join(SRC, name), 'utf8')));
  expect(parsing.toSorted()).toEqual(['config/address.ts', 'packet/address.ts']);
});

test('only the engine joins io and forward', () => {
  const rooms = new Set(imports.map(({ room }) => room));
  const joins = [...rooms].filter((room) =>
    ['io', 'forward'].every((target) => imports.some((i) => i.room === room && i.target === target)),
  );
  expect(joins.filter((room) => room !== 'engine')).toEqual([]);
});

test('who handles no packets has from the rooms of packets numbers and addresses alone', () => {
  const facts = ['layout/ports.ts', 'layout/limits.ts', 'packet/address.ts'];
  const handlers = [...CORE, 'io', 'engine', 'service'];
  const wrong = imports.filter(
    ({ room, target, specifier }) =>
      ['layout', 'packet'].includes(target ?? '') && !handlers.includes(room) && !facts.some((fact) => specifier.endsWith(fact)),
  );
  expect(wrong.map(tell)).toEqual([]);
});

test('health, proxy and control never touch frames', () => {
  const wrong = imports.filter(
    ({ room, specifier }) =>
      ['health', 'proxy', 'control'].includes(room) &&
      /\/(io|layout\/frames)/.test(specifier) &&
      !(room === 'proxy' && specifier === '../io/native.ts'),
  );
  expect(wrong.map(tell)).toEqual([]);
});

test.each(['unit', 'netns'])('test/%s holds tests alone, which export nothing: helpers are in test/lab and test/fixtures', (suite) => {
  const folder = join(SRC, '../test', suite);
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => /\.[cm]?[jt]s$|\.json$/.test(name));
  const isTest = (name: string) => name.endsWith('.test.ts') && !/^export /m.test(readFileSync(join(folder, name), 'utf8'));
  expect(files.filter((name) => !isTest(name))).toEqual([]);
});
