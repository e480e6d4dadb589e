/** What is made of /proc/PID/status: which capabilities root's balancer keeps, whether it has more, and what to say of that. */
import { expect, test } from 'vitest';
import { named, privileges } from '../../src/io/capabilities.ts';
import { isConfined, keptOf, unconfined, wideBounds } from '../../src/io/confinement.ts';

const ALL = 2n ** 41n - 1n;
/** CHOWN, DAC_OVERRIDE, NET_BIND_SERVICE, NET_ADMIN, NET_RAW, PERFMON, BPF. */
const KEPT = 0xc000003403n;

function status(permitted: bigint, bounding: bigint, isFinal: boolean) {
  const line = (name: string, mask: bigint) => `${name}:\t${mask.toString(16).padStart(16, '0')}\n`;
  const lines = [line('CapInh', 0n), line('CapPrm', permitted), line('CapEff', permitted), line('CapBnd', bounding), line('CapAmb', 0n)];
  return privileges(`Name:\tnode\n${lines.join('')}NoNewPrivs:\t${Number(isFinal)}\n`);
}

const maskOf = (numbers: Iterable<number>) => [...numbers].reduce((mask, number) => mask | (1n << BigInt(number)), 0n);

test('root keeps what the modes need, may read what others alone may, and no more', () => {
  const root = status(ALL, ALL, false);
  expect(maskOf(root.bounding)).toBe(ALL);
  expect(maskOf(keptOf(root))).toBe(KEPT);
  expect(isConfined(root)).toBe(false);
  expect(unconfined(root, true)).toContain(
    'could not give them away: it keeps CAP_DAC_READ_SEARCH, CAP_SETPCAP, CAP_SYS_PTRACE, CAP_SYS_ADMIN, 30 others',
  );
  expect(unconfined(root, false)).toBeUndefined();
});

test.each([
  ['as a container often has it, without CAP_DAC_READ_SEARCH', 0x3402n],
  ['without CAP_DAC_OVERRIDE it keeps CAP_DAC_READ_SEARCH', 0x3404n],
])('%s; what it has not it does not get', (_, has) => {
  const container = status(has, has, true);
  expect(maskOf(keptOf(container))).toBe(has);
  expect([isConfined(container), unconfined(container, true), wideBounds(container, true)]).toEqual([true, undefined, undefined]);
});

test('no more than it is to keep is not enough: what it starts could get more', () => {
  expect(unconfined(status(KEPT, ALL, false), true)).toContain('programs that it starts may get more privileges');
  expect(isConfined(status(KEPT, KEPT, true))).toBe(true);
});

test('where execve(2) failed, the main thread alone has given them away: what the others keep is told', () => {
  const failed = { reason: 'execve(/opt/node): EACCES', had: status(ALL, ALL, false) };
  expect(unconfined(status(KEPT, KEPT, true), true, failed)).toMatch(
    /: all its threads but the main one keep CAP_DAC_READ_SEARCH, .*30 others \(execve\(\/opt\/node\): EACCES\)$/,
  );
  expect(unconfined(failed.had, true, failed)).toContain('it keeps CAP_DAC_READ_SEARCH');
  expect(unconfined(status(KEPT, KEPT, true), false, failed)).toBeUndefined();
});

test('a bounding set that stays is told, to root', () => {
  expect(wideBounds(status(KEPT, KEPT | (1n << 21n), true), true)).toBe('CAP_SYS_ADMIN');
  expect(wideBounds(status(KEPT, ALL, true), false)).toBeUndefined();
});

test('a process without a /proc has nothing; what has no name here is counted', () => {
  expect(privileges('')).toEqual({ effective: new Set(), permitted: new Set(), bounding: new Set(), isFinal: false });
  expect(named([21, 3, 63])).toBe('CAP_SYS_ADMIN, 2 others');
});
