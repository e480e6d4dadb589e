/** `lb4 rules --remove` and proxy mode's start take away what a killed lb4 left, or say why not. */
import { expect, test, vi } from 'vitest';
import { PrivilegeError } from '../../src/errors.ts';
import { forgetDeadHolder } from '../../src/io/namespace-lock.ts';

vi.mock('../../src/io/private-directory.ts', () => ({
  makePrivate: (path: string) => {
    throw Object.assign(new Error(`EROFS: read-only file system, mkdir '${path}'`), { code: 'EROFS' });
  },
  removeIfEmpty: () => {},
}));

test('no lock to be had, and nobody has it: it says so, instead of leaving everything where it is', () => {
  expect(() => forgetDeadHolder(true)).toThrow(PrivilegeError);
  expect(() => forgetDeadHolder(true)).toThrow(/read-only file system.*let it write to \/run/);
});
