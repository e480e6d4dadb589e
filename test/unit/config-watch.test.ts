import {
  appendFileSync,
  chmodSync,
  closeSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { eachLookup } from '../../src/config/read/lookups.ts';
import { type Watching, watchConfig } from '../../src/config/watch.ts';
import { PATIENCE } from '../lab/wait.ts';

let root = '';
let watching: Watching | undefined;
/** What the file held each time that a change was told. */
let told: string[] = [];
const GONE = 'gone';

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lb4-watch-'));
  told = [];
});
afterEach(() => {
  watching?.close();
  rmSync(root, { recursive: true, force: true });
});

const at = (...names: string[]) => join(root, ...names);

function contentOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return GONE;
  }
}

/** So long a file that is written in place must be still here. */
const STILL = 300;

function watchFrom(path: string, stillMs: number | undefined = STILL): void {
  watching = watchConfig(
    path,
    () => {
      told.push(contentOf(path));
    },
    { log: (message) => expect.unreachable(message), stillMs },
  );
}

function write(path: string, content: string): void {
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, content);
}

/** Writes beside it and renames over it, as most programs do. */
function replace(path: string, content: string): void {
  writeFileSync(`${path}.new`, content);
  renameSync(`${path}.new`, path);
}

function link(path: string, target: string): void {
  symlinkSync(target, `${path}.new`);
  renameSync(`${path}.new`, path);
}

const isTold = (content: string) => vi.waitFor(() => expect(told.at(-1)).toBe(content), { timeout: PATIENCE, interval: 20 });

/** Longer than a change takes to be told. */
const settle = () => sleep(STILL + 300);

interface Way {
  readonly name: string;
  /** Puts the first version there and returns the path that is watched. */
  readonly prepare: () => string;
  /** Puts another version there. */
  readonly change: (version: string) => void;
  /** In one step: there is no half-written file. */
  readonly atOnce?: true;
}

const WAYS: Way[] = [
  {
    name: 'writing in place',
    prepare: () => (write(at('lb4.toml'), 'v0'), at('lb4.toml')),
    change: (version) => write(at('lb4.toml'), version),
  },
  {
    name: 'a rename over it',
    atOnce: true,
    prepare: () => (write(at('lb4.toml'), 'v0'), at('lb4.toml')),
    change: (version) => replace(at('lb4.toml'), version),
  },
  {
    name: 'a relative path',
    atOnce: true,
    prepare: () => (write(at('lb4.toml'), 'v0'), relative(process.cwd(), at('lb4.toml'))),
    change: (version) => replace(at('lb4.toml'), version),
  },
  {
    name: 'a write under its second name',
    prepare: () => (
      write(at('a', 'lb4.toml'), 'v0'), mkdirSync(at('b')), linkSync(at('a', 'lb4.toml'), at('b', 'same')), at('a', 'lb4.toml')
    ),
    change: (version) => write(at('b', 'same'), version),
  },
  {
    name: 'an exchange as of a ConfigMap',
    atOnce: true,
    prepare: () => (
      write(at('..2026_11_20', 'lb4.toml'), 'v0'),
      link(at('..data'), '..2026_11_20'),
      link(at('lb4.toml'), '..data/lb4.toml'),
      at('lb4.toml')
    ),
    change: (version) => {
      const old = realpathSync(at('..data'));
      write(at(`..${version}`, 'lb4.toml'), version);
      link(at('..data'), `..${version}`);
      rmSync(old, { recursive: true });
    },
  },
  {
    name: 'a link to another directory, whose link is exchanged',
    atOnce: true,
    prepare: () => (
      write(at('v0', 'lb4.toml'), 'v0'),
      link(at('now'), 'v0'),
      mkdirSync(at('etc')),
      link(at('etc', 'lb4.toml'), '../now/lb4.toml'),
      at('etc', 'lb4.toml')
    ),
    change: (version) => (write(at(version, 'lb4.toml'), version), link(at('now'), version)),
  },
  {
    name: 'a path through a link that is exchanged',
    atOnce: true,
    prepare: () => (write(at('v0', 'lb4.toml'), 'v0'), link(at('now'), at('v0')), at('now', 'lb4.toml')),
    change: (version) => (write(at(version, 'lb4.toml'), version), link(at('now'), at(version))),
  },
  {
    name: 'an absolute link to a file that is written in place',
    prepare: () => (write(at('far', 'away.toml'), 'v0'), link(at('lb4.toml'), at('far', 'away.toml')), at('lb4.toml')),
    change: (version) => write(at('far', 'away.toml'), version),
  },
  {
    name: 'a directory that is replaced',
    atOnce: true,
    prepare: () => (write(at('etc', 'lb4', 'lb4.toml'), 'v0'), at('etc', 'lb4', 'lb4.toml')),
    change: (version) => {
      write(at(version, 'lb4.toml'), version);
      renameSync(at('etc', 'lb4'), at(`before-${version}`));
      renameSync(at(version), at('etc', 'lb4'));
    },
  },
  {
    name: 'a directory above that is replaced',
    atOnce: true,
    prepare: () => (write(at('etc', 'lb4', 'lb4.toml'), 'v0'), at('etc', 'lb4', 'lb4.toml')),
    change: (version) => {
      write(at(version, 'lb4', 'lb4.toml'), version);
      renameSync(at('etc'), at(`before-${version}`));
      renameSync(at(version), at('etc'));
    },
  },
];

it.each(WAYS)('$name is told each time anew, and once for several in a row', async ({ prepare, change }) => {
  watchFrom(prepare());
  for (const version of ['v1', 'v2']) {
    change(version);
    await isTold(version);
  }
  for (const version of ['v3', 'v4', 'v5']) change(version);
  await isTold('v5');
  await settle();
  expect(told).toEqual(['v1', 'v2', 'v5']);
});

it.each(WAYS.filter(({ atOnce }) => atOnce))('$name is told at once, however long others must be still', async ({ prepare, change }) => {
  watchFrom(prepare(), 60_000);
  for (const version of ['v1', 'v2']) {
    change(version);
    await isTold(version);
  }
});

describe('a file in two halves', () => {
  it.each([700, 1500])('written in place, %i ms apart, is told when it is whole', async (ms) => {
    const [anew, appended] = [at('anew', 'lb4.toml'), at('appended', 'lb4.toml')];
    const heard: string[] = [];
    const watchings = [anew, appended].map((path) => {
      write(path, 'v0');
      return watchConfig(path, () => heard.push(contentOf(path)));
    });
    // Truncated and kept open, as a slow copy does; and by two programs, as `cat a >f; cat b >>f` does.
    const fd = openSync(anew, 'w');
    writeSync(fd, 'v1 first');
    writeFileSync(appended, 'v2 first');
    await sleep(ms);
    writeSync(fd, ' second');
    closeSync(fd);
    appendFileSync(appended, ' second');
    await vi.waitFor(() => expect(heard).toHaveLength(2), { timeout: PATIENCE, interval: 50 });
    for (const one of watchings) one.close();
    expect(heard.sort()).toEqual(['v1 first second', 'v2 first second']);
  });

  it('made anew in its place, the second half late, is told when it is whole', async () => {
    write(at('lb4.toml'), 'v0');
    watchFrom(at('lb4.toml'), 1000);
    rmSync(at('lb4.toml'));
    const fd = openSync(at('lb4.toml'), 'w');
    await sleep(300);
    writeSync(fd, 'v1 first');
    await sleep(300);
    writeSync(fd, ' second');
    closeSync(fd);
    await isTold('v1 first second');
    expect(told).toEqual(['v1 first second']);
  });
});

describe('a file that vanishes', () => {
  it('is told, and so is its return', async () => {
    write(at('lb4.toml'), 'v0');
    watchFrom(at('lb4.toml'));
    rmSync(at('lb4.toml'));
    await isTold(GONE);
    write(at('lb4.toml'), 'v0');
    await isTold('v0');
  });

  it('with its directories may come back with them', async () => {
    write(at('a', 'b', 'lb4.toml'), 'v0');
    watchFrom(at('a', 'b', 'lb4.toml'));
    rmSync(at('a'), { recursive: true });
    await isTold(GONE);
    write(at('a', 'b', 'lb4.toml'), 'v1');
    await isTold('v1');
  });

  it('and returns at once is one change', async () => {
    write(at('lb4.toml'), 'v0');
    watchFrom(at('lb4.toml'));
    rmSync(at('lb4.toml'));
    write(at('lb4.toml'), 'v1');
    await isTold('v1');
    expect(told).toEqual(['v1']);
  });

  it('may be missing from the start, or be a link to itself', async () => {
    symlinkSync('lb4.toml', at('lb4.toml'));
    watchFrom(at('lb4.toml'));
    replace(at('lb4.toml'), 'v1');
    await isTold('v1');
  });
});

describe('nothing is told', () => {
  beforeEach(() => {
    write(at('lb4.toml'), 'v0');
    watchFrom(at('lb4.toml'));
  });

  it.each([
    { name: 'of the same content, written again', change: () => write(at('lb4.toml'), 'v0') },
    { name: 'of the same content, renamed over', change: () => replace(at('lb4.toml'), 'v0') },
    { name: 'of new times', change: () => utimesSync(at('lb4.toml'), 1, 1) },
    { name: 'of new permissions', change: () => chmodSync(at('lb4.toml'), 0o600) },
    { name: 'of a neighbour', change: () => write(at('lb4.toml~'), 'v1') },
    { name: 'after close()', change: () => (write(at('lb4.toml'), 'v1'), watching?.close()) },
  ])('$name', async ({ change }) => {
    change();
    await settle();
    expect(told).toEqual([]);
  });
});

it('exchanges without a pause are told all the same, and the last one, too', async () => {
  write(at('lb4.toml'), 'v0');
  watchFrom(at('lb4.toml'));
  for (let i = 1; i <= 125; i++) {
    replace(at('lb4.toml'), `v${i}`);
    await sleep(20);
  }
  expect(told.length).toBeGreaterThan(0);
  await isTold('v125');
});

it('a file that got the inode number of the one before is another file all the same', async () => {
  write(at('lb4.toml'), 'v0');
  watchFrom(at('lb4.toml'), 3_600_000);
  await sleep(20);
  // v1 frees the inode of v0, and v2 gets it: on ext4 always. Taken for a file written in place, it would have to be still for an hour.
  replace(at('lb4.toml'), 'v1');
  replace(at('lb4.toml'), 'v2');
  await isTold('v2');
});

it('whatever happens in whatever order, the last state is told', async () => {
  const rounds = 12;
  write(at('v0', 'lb4.toml'), 'v0');
  link(at('now'), 'v0');
  watchFrom(at('now', 'lb4.toml'), 50);
  for (let i = 1; i <= rounds; i++) {
    write(at(`v${i}`, 'lb4.toml'), 'soon');
    link(at('now'), `v${i}`);
    // From just after the exchange, while nobody may be watching the new directory yet, to long after.
    await sleep(i * 20);
    write(at(`v${i}`, 'lb4.toml'), `v${i}`);
    await isTold(`v${i}`);
  }
});

describe('the lookups of a path', () => {
  const lookups = (path: string) => {
    const found: string[] = [];
    eachLookup(path, (directory, name) => void found.push(relative(root, join(directory, name))));
    return found.filter((name) => name !== '' && !name.startsWith('..'));
  };

  it('follow links as the kernel does', () => {
    mkdirSync(at('a', 'b'), { recursive: true });
    symlinkSync('a/b', at('link'));
    symlinkSync(at('a', 'file'), at('a', 'b', 'absolute'));
    expect(lookups(at('link', 'absolute'))).toEqual(['link', 'a', 'a/b', 'a/b/absolute', 'a', 'a/file']);
    // The parent of where the link leads, not of the link.
    expect(lookups(`${at('link')}/../file`)).toEqual(['link', 'a', 'a/b', 'a/file']);
    expect(lookups(`${root}//./a/.`)).toEqual(['a']);
  });

  it('end in a loop, as the kernel gives up', () => {
    symlinkSync('loop', at('loop'));
    expect(lookups(at('loop', 'file'))).toEqual(Array(41).fill('loop'));
  });
});
