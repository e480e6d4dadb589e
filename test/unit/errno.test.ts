/** Every errno is somebody's fault: the table that health checks and the proxy's connects go by. */
import { constants } from 'node:os';
import { describe, expect, test } from 'vitest';
import { type Attempt, type Fault, meaningOf, meaningOfError } from '../../src/errno.ts';
import { LocalErrors } from '../../src/health/local-errors.ts';
import { isOwnAddress } from '../../src/health/source.ts';

const ATTEMPTS: readonly Attempt[] = ['connect', 'bind', 'send', 'spawn'];

/** What ends a connection attempt against a server: the checks take it down. All others leave it as it is. */
const COUNTS: readonly Fault[] = ['server', 'route'];

/** ERRORS of connect(2), bind(2), send(2), ip(7) and tcp(7), and what ICMP errors become; then of execve(2) and fork(2). */
const KNOWN: Record<Attempt, Partial<Record<Fault, string>>> = {
  connect: {
    server: 'ECONNREFUSED ECONNRESET ECONNABORTED ETIMEDOUT EHOSTUNREACH EHOSTDOWN EPROTO ENOPROTOOPT',
    route: 'EINVAL EACCES EPERM ENETUNREACH ENETDOWN ENONET ENODEV EOPNOTSUPP EMSGSIZE',
    host: 'EAFNOSUPPORT EPROTONOSUPPORT EBADF EFAULT ENOTSOCK ENOSYS',
    short: 'EMFILE ENFILE ENOBUFS ENOMEM',
    again: 'EADDRNOTAVAIL EADDRINUSE EAGAIN EINTR EALREADY EINPROGRESS EISCONN ECANCELED',
  },
  bind: {
    host: 'EADDRNOTAVAIL EACCES EPERM EINVAL EAFNOSUPPORT EBADF ENOTSOCK EFAULT',
    short: 'ENOMEM ENOBUFS EMFILE',
    again: 'EADDRINUSE EINTR',
  },
  send: {
    server: 'ECONNREFUSED ECONNRESET EPIPE ENOTCONN ETIMEDOUT EHOSTUNREACH',
    route: 'EINVAL EACCES EPERM ENETUNREACH ENETDOWN EMSGSIZE',
    host: 'EBADF EFAULT ENOTSOCK EDESTADDRREQ',
    short: 'ENOBUFS ENOMEM',
    again: 'EAGAIN EINTR',
  },
  spawn: {
    host: 'ENOENT ENOTDIR EACCES EPERM EISDIR ENOEXEC ELIBBAD EINVAL ELOOP ENAMETOOLONG E2BIG EIO',
    short: 'EAGAIN EMFILE ENFILE ENOMEM',
    again: 'ETXTBSY EINTR',
  },
};

const rows = ATTEMPTS.flatMap((attempt) =>
  Object.entries(KNOWN[attempt]).flatMap(([fault, codes]) => codes.split(' ').map((code) => ({ attempt, code, fault }))),
);

test.each(rows)(
  '$attempt: $code is of the kind $fault, by a row of its own or by the default for what is not expected',
  ({ attempt, code, fault }) => {
    expect(meaningOf(code, attempt).fault).toBe(fault);
  },
);

test('every errno of this system has a meaning for every attempt, with words', () => {
  const codes = Object.keys(constants.errno);
  expect(codes.length).toBeGreaterThan(75);
  for (const attempt of ATTEMPTS)
    for (const code of codes) {
      const { fault, words } = meaningOf(code, attempt);
      expect(['server', 'route', 'host', 'short', 'again']).toContain(fault);
      expect(words).toMatch(/\w/);
    }
});

test('only what is known to concern a server counts against it: whatever nobody expects blames none', () => {
  const counting = Object.keys(constants.errno).filter((code) => COUNTS.includes(meaningOf(code, 'connect').fault));
  expect(counting.toSorted()).toEqual([
    'EACCES',
    'ECONNABORTED',
    'ECONNREFUSED',
    'ECONNRESET',
    'EHOSTUNREACH',
    'EINVAL',
    'EMSGSIZE',
    'ENETDOWN',
    'ENETRESET',
    'ENETUNREACH',
    'ENODEV',
    'ENOPROTOOPT',
    'ENOTCONN',
    'ENXIO',
    'EOPNOTSUPP',
    'EPERM',
    'EPIPE',
    'EPROTO',
    'ETIMEDOUT',
  ]);
  for (const attempt of ['bind', 'spawn'] as const)
    for (const code of KNOWN[attempt].host?.split(' ') ?? []) expect(COUNTS).not.toContain(meaningOf(code, attempt).fault);
  for (const code of ['', 'E_FROM_THE_FUTURE', 'toString', '__proto__']) expect(meaningOf(code, 'connect').fault).toBe('host');
});

test('an error tells by its syscall what was attempted', () => {
  const fault = (code: string, syscall?: string) => meaningOfError(Object.assign(new Error(code), { code, syscall })).fault;
  expect(fault('EACCES', 'connect')).toBe('route');
  expect(fault('EACCES', 'bind')).toBe('host');
  expect(fault('EACCES', 'spawn /bin/x')).toBe('host');
  expect(fault('EACCES', 'write')).toBe('route');
  expect(fault('EADDRNOTAVAIL', 'connect')).toBe('again');
  expect(fault('ECONNRESET')).toBe('server');
});

test('an address is ours or not', async () => {
  expect(await Promise.all(['127.0.0.1', '127.0.0.9', '198.51.100.1'].map(isOwnAddress))).toEqual([true, true, false]);
});

describe('what keeps checks from being made', () => {
  test('is told once, and its end once, however many servers meet it', () => {
    const localErrors = new LocalErrors();
    expect(['a', 'b', 'a'].map((id) => localErrors.meet(id, 'no address'))).toEqual([true, false, false]);
    expect(['a', 'a', 'b', 'b'].map((id) => localErrors.pass(id))).toEqual([undefined, undefined, 'no address', undefined]);
    expect(localErrors.meet('a', 'no address')).toBe(true);
  });

  test('may change', () => {
    const localErrors = new LocalErrors();
    localErrors.meet('a', 'one');
    expect(localErrors.pass('a', 'one')).toBeUndefined();
    expect(localErrors.pass('a', 'other')).toBe('one');
    expect(localErrors.meet('a', 'other')).toBe(true);
  });
});
