import { PassThrough } from 'node:stream';
import { afterEach, expect, it, vi } from 'vitest';
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
  expect(() => createLogger({ level: 'loud' })).toThrow(UsageError);
});
