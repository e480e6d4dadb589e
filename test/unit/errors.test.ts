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
