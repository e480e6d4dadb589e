import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import * as errors from '../../src/errors.ts';

type ErrorClass = typeof errors.FailureError | typeof errors.ConfigError;

const classes = Object.values(errors).filter(
  (value): value is ErrorClass => typeof value === 'function' && value.prototype instanceof errors.Lb4Error,
);
const page = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8');

it.each(classes.map((Class) => ({ Class, name: Class.name })))(
  '$name is explained in docs/errors.md with its exit status',
  ({ Class, name }) => {
    const error = Reflect.construct(Class, name === 'ConfigError' ? [[]] : ['message']) as errors.Lb4Error;
    expect(error.name).toBe(name);
    expect(page).toMatch(new RegExp(`^\\| \`${error.code}\` \\| ${error.exitCode} \\|`, 'm'));
  },
);

it('docs/errors.md explains no code that is gone', () => {
  const documented = [...page.matchAll(/^\| `(LB4_\w+)`/gm)].map(([, code]) => code);
  expect(documented).toHaveLength(classes.length);
});

it.each([
  ['EMFILE', /ulimit -Hn/],
  ['ENFILE', /fs\.file-max/],
  ['EAGAIN', /ulimit -Hu/],
  ['ENOMEM', /memory/],
  ['ERR_WORKER_INIT_FAILED', /ulimit -Hu/],
  ['ERR_WORKER_OUT_OF_MEMORY', /memory/],
])('%s says what to raise, in one line, and has a status of its own', (code, says) => {
  const error = errors.resourceError(Object.assign(new Error('open()'), { code }));
  expect(error).toMatchObject({ exitCode: 71, message: expect.stringMatching(says) as string });
  expect(error?.message).not.toContain('\n');
  expect(errors.resourceError(Object.assign(new Error('open()'), { code: 'EPERM' }))).toBeUndefined();
});
