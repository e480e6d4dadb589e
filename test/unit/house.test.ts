/** Who may import whom: docs/architecture.md. An arrow never runs up, and no two rooms import each other. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const SRC = fileURLToPath(new URL('../../src', import.meta.url));
const CORE = ['layout', 'packet', 'access', 'flow', 'balance', 'forward'];

/** A row of docs/architecture.md's table: rooms, what they are, and what they may import. */
const ROW = /^\| ((?:`src\/[\w.]+`(?:, )?)+) \|.*\| ([^|]*) \|$/gm;
/** The rooms each room may import, directly, lowest floor first: as the table has it. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = Object.fromEntries(
  [...readFileSync(join(SRC, '../docs/architecture.md'), 'utf8').matchAll(ROW)].flatMap(([, rooms = '', cell = '']) => {
    const words = cell.replaceAll(/\(.*?\)/g, '').split(', ');
    const allowed = words.map((word) => word.trim()).filter((word) => word !== 'nothing');
    return [...rooms.matchAll(/src\/(\w+)/g)].map(([, room]) => [room, allowed] as const);
  }),
);
/** The floors inside config, folders and the files at its top (src/config/README.md). */
const CONFIG: Record<string, readonly string[]> = {
  read: [],
  address: [],
  cpus: [],
  payload: [],
  model: ['address'],
  modes: ['model'],
  endpoint: ['model'],
  restart: ['model'],
  effective: ['model', 'modes', 'restart', 'schema'],
  sources: ['model'],
  schema: ['model', 'modes', 'address', 'cpus', 'payload'],
  check: ['read', 'schema', 'model', 'modes', 'address', 'cpus'],
  graft: ['read'],
  lists: ['address', 'schema'],
  load: ['check', 'read', 'schema', 'model', 'modes', 'effective', 'graft', 'lists'],
  written: ['effective', 'load', 'modes'],
  watch: ['read'],
  reference: ['read', 'schema', 'restart'],
};
/** Files beside the rooms that any room outside the core may use. */
const COMMON = ['each-second', 'errors', 'errno', 'log', 'ip', 'look-up', 'own-files', 'suggest'];

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

test('every room in the drawing is there, and imports those above it in the table alone', () => {
  const floors = Object.keys(ALLOWED);
  const rooms = new Set(imports.map(({ room }) => room));
  expect(floors.filter((room) => !rooms.has(room))).toEqual([]);
  for (const [at, room] of floors.entries()) {
    const strange = ALLOWED[room]?.filter((below) => !floors.slice(0, at).includes(below));
    expect(strange, `of ${room}`).toEqual([]);
  }
});

test('what every command loads is no room but the few files that they share: --help and what asks a running lb4 start at once', () => {
  const loaded = new Set(['cli/command-line.ts']);
  for (const file of loaded) {
    const text = readFileSync(join(SRC, file), 'utf8');
    for (const [, path = ''] of text.matchAll(/^(?:import (?!type\b)|export |\})[^;]*?from '(\.[^']+)';$/gm))
      loaded.add(join(dirname(file), path));
  }
  const others = [...loaded].filter((file) => !file.startsWith('cli/') && !COMMON.includes(file.replace(/\.ts$/, '')));
  expect(others.toSorted()).toEqual(['control/pcapng.ts', 'doctor/finding.ts', 'io/control-point.ts']);
  expect(loaded).toContain('cli/check-command.ts');
  expect(loaded).not.toContain('cli/run.ts');
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

test('no files import each other in a circle, types included', () => {
  expect(circles()).toEqual([]);
});

/** Every set of files each of which leads to each other one (Tarjan's strongly connected components), as one text. */
function circles(): string[] {
  const targets = new Map<string, string[]>();
  for (const { file, specifier } of imports) {
    const more = specifier.startsWith('.') ? [relative(SRC, join(SRC, dirname(file), specifier))] : [];
    targets.set(file, [...(targets.get(file) ?? []), ...more]);
  }
  const order = new Map<string, number>();
  const way: string[] = [];
  const found: string[] = [];
  /** The lowest number on the way that a file leads back to. */
  const visit = (file: string): number => {
    const own = order.size;
    order.set(file, own);
    const place = way.push(file) - 1;
    let lowest = own;
    for (const target of targets.get(file) ?? []) {
      if (!order.has(target)) lowest = Math.min(lowest, visit(target));
      else if (way.includes(target)) lowest = Math.min(lowest, order.get(target) ?? own);
    }
    if (lowest === own) {
      const circle = way.splice(place);
      if (circle.length > 1) found.push(circle.toSorted().join(' '));
    }
    return lowest;
  };
  for (const file of targets.keys()) if (!order.has(file)) visit(file);
  return found.toSorted();
}

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

/** Where modes have names: the command line, which users give them to, their table, what comes from other balancers, and who runs one mode alone. */
const NAMING = [
  'cli/command-line.ts',
  'cli/doctor.ts',
  'cli/options.ts',
  'config/modes.ts',
  'import/glb.ts',
  'import/haproxy.ts',
  'import/ipvsadm.ts',
  'service/leftovers.ts',
  'service/proxy-path.ts',
];

describe("a mode's name", () => {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  const find = (pattern: RegExp, isLeftOut = (_name: string) => false) =>
    files.filter((name) => !isLeftOut(name)).filter((name) => pattern.test(readFileSync(join(SRC, name), 'utf8')));

  test('is asked by nobody: config/modes.ts has the facts, and forward/modes.ts those of packets', () => {
    expect(find(/(?:[!=]==?|\bcase) '(?:proxy|passthrough|dsr|dsrL2)'|'(?:proxy|passthrough|dsr|dsrL2)' [!=]==?/)).toEqual([]);
    // A backend's key `dsr` means something together with the mode alone.
    expect(find(/[!=]== '(?:l2|nat)'/, (name) => name.startsWith('config/check/'))).toEqual([]);
  });

  test('stands in few files', () => {
    // Keys of the configuration file are called like modes.
    const isKeys = (name: string) => /^config\/(schema|check)\//.test(name);
    expect(find(/'(?:proxy|passthrough|dsr|dsrL2)'/, isKeys).toSorted()).toEqual(NAMING);
  });
});

test('only the engine joins io and forward', () => {
  const rooms = new Set(imports.map(({ room }) => room));
  const joins = [...rooms].filter((room) =>
    ['io', 'forward'].every((target) => imports.some((i) => i.room === room && i.target === target)),
  );
  expect(joins.filter((room) => room !== 'engine')).toEqual([]);
});

test('who handles no packets has from the rooms of packets numbers, addresses and facts of modes alone', () => {
  const facts = ['layout/ports.ts', 'layout/limits.ts', 'packet/address.ts', 'forward/modes.ts'];
  const handlers = [...CORE, 'io', 'engine', 'service'];
  const wrong = imports.filter(
    ({ room, target, specifier }) =>
      ['layout', 'packet', 'forward'].includes(target ?? '') && !handlers.includes(room) && !facts.some((fact) => specifier.endsWith(fact)),
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

describe('READMEs', () => {
  const rooms = Object.keys(ALLOWED).filter((room) => existsSync(join(SRC, room)));
  const root = join(SRC, '..');
  const names = ['src', 'native', 'iptables'].flatMap((folder) => readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }));
  const known = new Set(names.map((name) => name.split('/').at(-1)));
  /** Files that a text names and that are not there: paths from its own folder, from src or from the top; bare names anywhere. */
  const lost = (text: string, folder: string) =>
    [...text.matchAll(/[\w.-]+(?:\/[\w.-]+)*\.(?:ts|cc|h|sh|md)\b/g)]
      .map(([name]) => name)
      .filter((name) => !known.has(name) && ![folder, SRC, root].some((start) => existsSync(join(start, name))));

  test.each(rooms)('src/%s has one of at most 60 lines, which names every file, and none that is not there', (room) => {
    const text = readFileSync(join(SRC, room, 'README.md'), 'utf8');
    expect(text.split('\n').length).toBeLessThanOrEqual(60);
    expect(lost(text, join(SRC, room))).toEqual([]);
    const files = readdirSync(join(SRC, room)).filter((name) => name.endsWith('.ts'));
    expect(files.filter((name) => !text.includes(name))).toEqual([]);
  });

  test('the files that docs/architecture.md names are there', () => {
    expect(lost(readFileSync(join(root, 'docs/architecture.md'), 'utf8'), root)).toEqual([]);
  });
});

test('a SYN crosses at most eight files, as src/forward/README.md tells', () => {
  const way = readFileSync(join(SRC, 'forward/README.md'), 'utf8').split("## A SYN's way")[1].split('\n## ')[0];
  const files = [...way.matchAll(/^\| `([\w-]+\.ts)`/gm)].map(([, name]) => name);
  expect(files.length).toBeGreaterThan(5);
  expect(files.length).toBeLessThanOrEqual(8);
  expect(files.filter((name) => !existsSync(join(SRC, 'forward', name)))).toEqual([]);
});

test('the time of day, which may jump, is asked for only where it is told to people', () => {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  const asking = files.filter((name) => /\bDate\.now\(|new Date\(\)/.test(readFileSync(join(SRC, name), 'utf8')));
  expect(asking.toSorted()).toEqual([
    'cli/why.ts',
    'connlog/connection-log.ts',
    'control/capture.ts',
    'engine/captures.ts',
    'engine/ended.ts',
    'health/health-state.ts',
    'health/watch.ts',
    'proxy/connection.ts',
    'service/reload.ts',
    'service/view.ts',
  ]);
});
