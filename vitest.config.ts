import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Files that take a minute and more in a whole run, the longest first. By itself vitest begins with the largest where it has seen none of them run. */
const LONG = [
  'end-to-end-life',
  'survival',
  'reload',
  'doctor',
  'rules',
  'dsr',
  'health',
  'convey-connections',
  'dsr-scripts',
  'fan-out',
  'takeover',
  'tracking-attacks',
  'log',
  'control',
  'balancing',
  'end-to-end-traffic',
  'guard',
  'tracking',
  'fast-path-death',
  'glb',
  'inline-life',
  'counters',
  'tracking-floods',
  'wrapped',
  'udp-ways',
  'inline',
  'proxy-limits',
  'operator-tasks',
  'lock',
  'top',
  'duties',
];

/** The rooms that handle packets (docs/architecture.md). */
const PACKET_ROOMS = ['access', 'balance', 'flow', 'forward', 'layout', 'packet'];
/** Per cent of lines that tests must run, in each of them and in all. */
const LINES = { lines: 95 };

/** What is begun last ends last, with nobody beside it. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const place = LONG.findIndex((name) => moduleId.endsWith(`/test/netns/${name}.test.ts`));
      return place < 0 ? LONG.length : place;
    };
    return (await super.sort(files)).toSorted((a, b) => rank(a) - rank(b));
  }
}

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    // `make coverage`: what its unit tests run.
    coverage: {
      provider: 'v8',
      include: PACKET_ROOMS.map((room) => `src/${room}/**/*.ts`),
      reporter: [['text', { skipFull: true }]],
      reportOnFailure: true,
      reportsDirectory: 'build/coverage',
      thresholds: { ...LINES, ...Object.fromEntries(PACKET_ROOMS.map((room) => [`src/${room}/**`, LINES])) },
    },
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          globalSetup: 'test/lab/proxy-setup.ts',
          setupFiles: 'test/lab/patience.ts',
          // Without it, one file at a time on two processors.
          maxWorkers: 2,
          // Limits against hanging. What takes a quarter of a minute by itself takes more than one beside a machine's other work.
          testTimeout: 240_000,
          hookTimeout: 240_000,
        },
      },
      {
        test: {
          name: 'netns',
          include: ['test/netns/**/*.test.ts'],
          globalSetup: 'test/lab/global-setup.ts',
          pool: 'forks',
          // The tests share one kernel, in namespaces of their own, and often wait: with three files at a time two processors are idle for 10 to 20 %.
          maxWorkers: 3,
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      // The first run fetches a whole Debian.
      {
        test: {
          name: 'bare',
          include: ['test/bare/**/*.test.ts'],
          globalSetup: 'test/lab/global-setup.ts',
          pool: 'forks',
          maxWorkers: 2,
          testTimeout: 1_800_000,
          hookTimeout: 1_800_000,
        },
      },
      { test: { name: 'kernel', include: ['test/kernel/**/*.test.ts'], maxWorkers: 2, testTimeout: 660_000, hookTimeout: 60_000 } },
    ],
  },
});
