import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          globalSetup: 'test/lab/proxy-setup.ts',
          setupFiles: 'test/lab/patience.ts',
          // Without it, one file at a time on two processors.
          maxWorkers: 2,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'netns',
          include: ['test/netns/**/*.test.ts'],
          globalSetup: 'test/lab/global-setup.ts',
          pool: 'forks',
          // The tests share one kernel, in namespaces of their own. Most of the time they wait: two files at a time take half as long.
          maxWorkers: 2,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      // The first run fetches a whole Debian.
      { test: { name: 'bare', include: ['test/bare/**/*.test.ts'], pool: 'forks', maxWorkers: 2, testTimeout: 900_000 } },
      { test: { name: 'kernel', include: ['test/kernel/**/*.test.ts'], maxWorkers: 2, testTimeout: 660_000, hookTimeout: 60_000 } },
    ],
  },
});
