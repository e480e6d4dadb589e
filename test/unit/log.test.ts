import { closeSync, fstatSync, openSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { afterEach, expect, it, vi } from 'vitest';
import { isJournal } from '../../src/cli/run-log.ts';
import { UsageError } from '../../src/errors.ts';
import { createLogger } from '../../src/log.ts';

afterEach(() => vi.unstubAllEnvs());

function written(stream: PassThrough): string {
  return String(stream.read() ?? '');
}

it('writes JSON with a named level and a readable time', () => {
  const stream = new PassThrough();
  createLogger({ stream }).info({ server: 'a' }, 'up');
  expect(JSON.parse(written(stream))).toEqual({ level: 'info', time: expect.stringMatching(/^\d{4}-.*Z$/), server: 'a', msg: 'up' });
});

it('takes its level from the option, then LB4_LOG', () => {
  vi.stubEnv('LB4_LOG', 'warn');
  expect(createLogger({ stream: new PassThrough() }).level).toBe('warn');
  expect(createLogger({ level: 'DEBUG', stream: new PassThrough() }).level).toBe('debug');
});

it('refuses a level that does not exist', () => {
  expect(() => createLogger({ level: 'loud', stream: new PassThrough() })).toThrow(UsageError);
});

it('never throws at whoever logs, whatever becomes of the line', () => {
  const full = {
    write: () => {
      throw new Error('ENOSPC');
    },
  };
  const odd = Object.create(null, { toString: { value: 1 } }) as object;
  for (const pretty of [true, false]) {
    const log = createLogger({ pretty, stream: full });
    expect(() => log.warn({ server: 'a' }, 'down')).not.toThrow();
    expect(() => log.warn({ odd, big: 1n, toJSON: () => JSON.parse('') }, 'down %s', odd)).not.toThrow();
  }
});

it('is pretty at once: what was logged last is not missing at the end', () => {
  vi.stubEnv('NO_COLOR', '1');
  const stream = new PassThrough();
  createLogger({ stream, pretty: true }).info({ server: 'a' }, 'up');
  expect(written(stream)).toMatch(/^\[[\d:.]+\] INFO: up \{"server":"a"\}\n$/);
});

it.each(['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const)('%s has its priority in the journal', (level) => {
  const stream = new PassThrough();
  createLogger({ stream, level: 'trace', priorities: true })[level]({ server: 'a' }, 'up');
  const [, priority, json] = /^<(\d)>(\{.*\})\n$/.exec(written(stream)) ?? [];
  expect([Number(priority), JSON.parse(json ?? '')]).toEqual([
    { trace: 7, debug: 7, info: 6, warn: 4, error: 3, fatal: 2 }[level],
    expect.objectContaining({ level }),
  ]);
});

it('tells the journal by what systemd says of it', () => {
  const fd = openSync('/dev/null', 'r');
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    const told = [`${dev}:${ino}`, `${dev}:${ino + 1n}`, '', 'nonsense'].map((stream) => {
      vi.stubEnv('JOURNAL_STREAM', stream);
      return isJournal(fd);
    });
    expect(told).toEqual([true, false, false, false]);
    vi.stubEnv('JOURNAL_STREAM', undefined);
    expect(isJournal(fd)).toBe(false);
  } finally {
    closeSync(fd);
  }
});
