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
  expect(written(stream)).toMatch(/INFO: up\n +server: "a"\n$/);
});
