/**
 * The log can neither end nor stop lb4, wherever it goes. In each situation traffic goes on, a reload is taken, a dead server leaves
 * rotation, and SIGTERM ends lb4 with 0 and leaves nothing.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdirSync, openSync, readFileSync, readSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Balancer, configuration, LB4, type Mode, STATS_PORT, type Stats, writeConfiguration } from '../lab/balancer.ts';
import { ROOT } from '../lab/lab.ts';
import { PYTHON } from '../lab/processes.ts';
import { HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { waitUntil } from '../lab/wait.ts';

interface World {
  readonly lab: Topology;
  readonly balancer: Balancer;
  /** lb4's configuration. */
  readonly file: string;
  /** Of its own for each situation. */
  readonly directory: string;
  /** lb4's. */
  readonly pid: number;
  /** Standard error, where it is a FIFO. */
  reader: number;
}

interface Situation {
  readonly name: string;
  /** In passthrough, too. */
  readonly everywhere?: boolean;
  /** A shell's line that starts lb4, "$@"; $D is the directory. */
  readonly start: string;
  /** Before lb4 starts. */
  readonly prepare?: (directory: string) => number;
  /** Once it is ready. */
  readonly meanwhile?: (world: World) => Promise<void> | void;
  /** Whether lines are lost. */
  readonly loses: boolean;
  /** Afterwards lines are written again: returns those written since. */
  readonly recover?: (world: World) => Promise<string>;
}

/** A pipe that has a reader, who does not read; already full. */
function fullPipe(directory: string): number {
  const path = join(directory, 'pipe');
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  try {
    for (;;) writeSync(reader, 'full '.repeat(100));
  } catch {} // EAGAIN
  return reader;
}

async function readUntil(reader: number, pattern: RegExp): Promise<string> {
  const buffer = Buffer.alloc(1 << 16);
  let text = '';
  const look = () => {
    try {
      text += buffer.toString('utf8', 0, readSync(reader, buffer));
    } catch {} // EAGAIN: nothing there
    return pattern.test(text);
  };
  await waitUntil(look, { what: `${pattern} in the log`, every: 1 });
  return text;
}

/** Lines until some are lost, more than 1 MB if need be: a file with thousands of mistakes, refused again and again. */
async function logMuch({ balancer, file }: World): Promise<void> {
  const good = readFileSync(file, 'utf8');
  writeFileSync(file, `[frontends.x]\n${Array.from({ length: 2000 }, (_, n) => `unknown_key_number_${n} = 1\n`).join('')}`);
  for (let n = 0; (await lostBy(balancer)) === 0; n++) {
    balancer.running.signal('SIGHUP');
    await balancer.settled('a refused reload', (stats) => extras(stats).reload.failed > n);
  }
  writeFileSync(file, good);
}

interface Extras {
  readonly reload: { readonly succeeded: number; readonly failed: number };
  readonly log: { readonly lines_lost: number };
}

const extras = (stats: Stats) => stats.lb4 as unknown as Extras;
const lostBy = async (balancer: Balancer) => extras(await balancer.stats()).log.lines_lost;
const NOTICE = /"lines":(\d+),"msg":"lines of this log were lost/;
const ON_TMPFS = 'mkdir $D/disk && mount -t tmpfs -o size=64k tmpfs $D/disk && exec "$@" 2>$D/disk/log';
/** What lb4 sees in its own mount namespace. */
const inside = ({ pid, directory }: World, name: string) => `/proc/${pid}/root${directory}/disk/${name}`;

/** @param size in bytes, of the largest file that lb4 may write */
function limitFiles({ pid }: World, size: number | 'unlimited'): void {
  execFileSync('prlimit', [`--pid=${pid}`, `--fsize=${size}:`]);
}

const SITUATIONS: readonly Situation[] = [
  { name: 'the disk is full from the start', everywhere: true, start: 'exec "$@" 2>/dev/full', loses: true },
  {
    name: 'the disk becomes full, and has room again',
    start: ON_TMPFS,
    loses: true,
    meanwhile: async (world) => {
      const filler = openSync(inside(world, 'filler'), 'w');
      for (const bytes of [4096, 1]) {
        try {
          for (;;) writeSync(filler, 'x'.repeat(bytes));
        } catch {} // ENOSPC
      }
      closeSync(filler);
      await logMuch(world);
    },
    recover: async (world) => {
      rmSync(inside(world, 'filler'));
      const log = () => readFileSync(inside(world, 'log'), 'utf8');
      await waitUntil(() => NOTICE.test(log()), { what: 'the notice' });
      return log();
    },
  },
  {
    name: 'a file that may not grow (`ulimit -f`), then may again',
    start: 'exec "$@" 2>$D/log',
    loses: true,
    meanwhile: async (world) => {
      limitFiles(world, statSync(join(world.directory, 'log')).size);
      await logMuch(world);
    },
    recover: async (world) => {
      limitFiles(world, 'unlimited');
      const log = () => readFileSync(join(world.directory, 'log'), 'utf8');
      await waitUntil(() => NOTICE.test(log()), { what: 'the notice' });
      return log();
    },
  },
  {
    name: "the log's directory is gone",
    start: 'mkdir $D/logs && exec "$@" 2>$D/logs/log',
    meanwhile: ({ directory }) => rmSync(join(directory, 'logs'), { recursive: true }),
    loses: false,
  },
  {
    name: 'a pipe that nobody reads, then somebody reads again',
    everywhere: true,
    start: 'exec "$@" 2>$D/pipe',
    prepare: fullPipe,
    meanwhile: logMuch,
    loses: true,
    recover: ({ reader }) => readUntil(reader, NOTICE),
  },
  {
    name: 'a pipe whose reader is gone, then another reader',
    start: 'exec "$@" 2>$D/pipe',
    prepare: (directory) => {
      execFileSync('mkfifo', [join(directory, 'pipe')]);
      return openSync(join(directory, 'pipe'), constants.O_RDONLY | constants.O_NONBLOCK);
    },
    meanwhile: ({ reader }) => closeSync(reader),
    loses: true,
    recover: (world) => {
      world.reader = openSync(join(world.directory, 'pipe'), constants.O_RDONLY | constants.O_NONBLOCK);
      return readUntil(world.reader, NOTICE);
    },
  },
  {
    name: 'a terminal that is gone',
    everywhere: true,
    start: `exec ${PYTHON} ${join(ROOT, 'test/lab/on-terminal.py')} "$@"`,
    meanwhile: async ({ balancer: { running } }) => {
      running.write('');
      await running.line(/^gone$/);
    },
    loses: true,
  },
  { name: 'standard output and error are closed', start: 'exec "$@" >&- 2>&-', loses: false },
];

async function expectTraffic({ lab }: World): Promise<void> {
  const answer = await lab.client.run('curl', '-sS', '--max-time', '60', `http://${VIP}/`);
  expect(answer.stdout, answer.stderr).toMatch(/^server/);
}

/** What must go on. */
async function expectService(world: World): Promise<void> {
  const { lab, balancer, file } = world;
  await expectTraffic(world);
  const { succeeded } = extras(await balancer.stats()).reload;
  writeFileSync(file, `${readFileSync(file, 'utf8')}# again\n`);
  await balancer.settled('a reload', (stats) => extras(stats).reload.succeeded > succeeded);
  const second = `${serverAddress(1)}:${HTTP}`;
  await lab.killBackend(1);
  await balancer.health({ [second]: false });
  await lab.startBackend(1);
  await balancer.health({ [second]: true });
}

async function expectAll(world: World, { meanwhile, loses, recover }: Situation): Promise<void> {
  const { balancer } = world;
  await meanwhile?.(world);
  await expectService(world);
  if (loses) await balancer.settled('lost lines', (stats) => extras(stats).log.lines_lost > 0);
  else expect(await lostBy(balancer)).toBe(0);
  if (recover === undefined) return;
  const told = Number(NOTICE.exec(await recover(world))?.[1]);
  expect(told).toBe(await lostBy(balancer));
  await expectTraffic(world);
  expect(await lostBy(balancer)).toBe(told);
  if (world.reader >= 0) closeSync(world.reader);
}

describe.each<Mode>(['proxy', 'passthrough'])('%s', (mode) => {
  let lab: Topology;
  beforeAll(async () => {
    lab = new Topology({ servers: 2 });
    await lab.startBackends();
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  function settings(): string {
    const servers = [0, 1].map((index) => `${serverAddress(index)}:${HTTP}`);
    return configuration({ frontends: { http: { listen: `${VIP}:${HTTP}`, servers } } });
  }

  const situations = SITUATIONS.filter(({ everywhere = false }) => everywhere || mode === 'proxy');
  test.each(situations)('$name', async (situation) => {
    const directory = join(lab.directory, situation.name.replaceAll(/\W+/g, '-'));
    mkdirSync(directory);
    const reader = situation.prepare?.(directory) ?? -1;
    const file = writeConfiguration(lab.balancer, settings());
    const lb4 = [LB4, ...(mode === 'proxy' ? [] : ['--passthrough']), `--config=${file}`];
    // Mounts are its own, and gone with it.
    const command = ['unshare', '--mount', 'sh', '-ec', situation.start, 'sh', ...lb4];
    const running = lab.balancer.start(command, { env: { D: directory, NO_COLOR: '1' } });
    const balancer = new Balancer(lab.balancer, running, `http://127.0.0.1:${STATS_PORT}/stats`);
    let { pid } = running;
    try {
      await waitUntil(() => balancer.stats().catch(() => undefined), { what: 'lb4 to be ready', every: 50 });
      pid = Number(running.lines.find((line) => line.startsWith('pid '))?.slice(4) ?? pid);
      await expectAll({ lab, balancer, file, directory, pid, reader }, situation);
      process.kill(pid, 'SIGTERM');
      expect(await running.exited).toEqual({ code: 0, signal: null });
      expect({ ...traces(lab.balancer), processes: [] }).toEqual(NOTHING);
    } finally {
      // For a test that failed: the next one needs its place.
      if (running.exit === undefined) process.kill(pid, 'SIGKILL');
      await running.exited;
    }
  });
});

describe('a start that fails', () => {
  let lab: Topology;
  let reader = -1;
  beforeAll(() => {
    lab = new Topology({ servers: 1 });
    reader = fullPipe(lab.directory);
  });
  afterAll(async () => {
    closeSync(reader);
    await lab[Symbol.asyncDispose]();
  });
  const READABLE = 'exec "$@" 2>$D/log';
  test.each([
    ['a file', READABLE],
    ['a full disk', 'exec "$@" 2>/dev/full'],
    ['a pipe that nobody reads', 'exec "$@" 2>$D/pipe'],
    ['a closed descriptor', 'exec "$@" 2>&-'],
    ['a pipe whose reader is gone', '{ sleep 0.3; "$@"; echo $? >$D/status; } 2>&1 >/dev/null | true; exit $(cat $D/status)'],
  ])('ends with its exit code, where standard error is %s', async (_, start) => {
    const file = writeConfiguration(lab.balancer, 'nonsense');
    const running = lab.balancer.start(['sh', '-c', start, 'sh', LB4, `--config=${file}`], { env: { D: lab.directory } });
    expect(await running.exited).toEqual({ code: 78, signal: null });
    if (start === READABLE) expect(readFileSync(join(lab.directory, 'log'), 'utf8')).toContain(`${file}:1:`);
  });
});
