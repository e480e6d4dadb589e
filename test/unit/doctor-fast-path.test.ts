/** What `lb4 doctor` makes of a host without a fast path, by what the file asks for. */
import { expect, test } from 'vitest';
import { judgeFastPath } from '../../src/doctor/fast-path.ts';

test.each([
  { asked: undefined, level: 'warn', message: 'no fast path in the kernel: no libbpf' },
  { asked: 'auto', level: 'warn', message: 'no fast path in the kernel: no libbpf' },
  { asked: 'off', level: 'ok', message: 'fast_path is "off"; there would be none: no libbpf' },
  { asked: 'tc', level: 'fail', message: 'fast_path = "tc", but no fast path in the kernel: no libbpf' },
  { asked: 'xdp', level: 'fail', message: 'fast_path = "xdp", but no fast path in the kernel: no libbpf' },
] as const)('$asked', ({ asked, level, message }) => {
  expect(judgeFastPath(asked, 'no libbpf', '')).toMatchObject({ level, message });
  expect(judgeFastPath(asked, undefined, '').level).toBe('ok');
  const lacking = judgeFastPath(asked, 'EPERM', 'CAP_BPF');
  expect(lacking).toMatchObject({ level, message: message.replace('no libbpf', 'this process lacks CAP_BPF') });
});

test('what mends it: another user, or what asks for less', () => {
  expect(judgeFastPath('tc', 'EPERM', 'CAP_BPF').mend).toBe('run it as root: sudo lb4 …; fast_path = "auto" starts without');
  expect(judgeFastPath('auto', 'EPERM', 'CAP_BPF').mend).toBe('run it as root: sudo lb4 …');
  expect(judgeFastPath('auto', 'no libbpf', '').mend).toContain('docs/operations.md');
});
