import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { type CheckOptions, check } from '../../src/cli/check.ts';
import { formatCpus } from '../../src/config/cpus.ts';
import { UsageError } from '../../src/errors.ts';
import { native } from '../../src/io/native.ts';
import { readConfig } from '../../src/service/reload.ts';

const directory = mkdtempSync(join(tmpdir(), 'lb4-check-'));
afterAll(() => rmSync(directory, { recursive: true }));

const GOOD = 'frontends.a={listen_addr="192.0.2.1:80",backend="b"}\nbackends.b.servers.s.addr="192.0.2.2:80"\n';

function run(toml: string, options: CheckOptions = {}) {
  const file = join(directory, 'lb4.toml');
  writeFileSync(file, toml);
  const out: string[] = [];
  const err: string[] = [];
  const strip = (lines: string[]) => (line: string) => void lines.push(line.replaceAll(`${directory}/`, ''));
  const status = check(file, options, { out: strip(out), err: strip(err) });
  return { status, out, err };
}

it('says ok and what is in the file', () => {
  expect(run(`${GOOD}proxy.workers=1\n[stats]`)).toEqual({
    status: 0,
    out: ['lb4.toml: ok', '1 frontend, 1 backend, 1 server, statistics on 127.0.0.1:7000'],
    err: [],
  });
});

it('prints warnings and passes', () => {
  const { status, err, out } = run(`${GOOD}statz = 1`);
  expect({ status, err }).toEqual({ status: 0, err: ['lb4.toml:3:1: warning: statz: unknown key, ignored; did you mean "stats"?'] });
  expect(out[0]).toBe('lb4.toml: ok');
});

it('fails on warnings with --strict', () => {
  expect(run(`${GOOD}statz = 1`, { strict: true })).toEqual({
    status: 78,
    err: ['lb4.toml:3:1: statz: unknown key, ignored; did you mean "stats"?'],
    out: [],
  });
});

it('prints every mistake and exits 78', () => {
  const { status, out, err } = run('[frontends.a]\n[backends]\n');
  expect({ status, out }).toEqual({ status: 78, out: [] });
  expect(err.join('\n').split('\n')).toHaveLength(2);
});

it('checks what DSR demands with --dsr', () => {
  const text = GOOD.replace('2.2:80', '2.2:8080');
  expect(run(text).status).toBe(0);
  expect(run(text, { dsr: true })).toMatchObject({
    status: 78,
    err: [expect.stringMatching(/^lb4\.toml:2:\d+: .*needed in DSR: port 80/)],
  });
});

it('checks what passthrough demands with --passthrough', () => {
  const text = GOOD.replace('192.0.2.1:', '[2001:db8::1]:');
  expect(run(text).status).toBe(0);
  expect(run(text, { passthrough: true })).toMatchObject({ status: 78, err: [expect.stringMatching(/IPv6 works in proxy mode only$/)] });
});

it('checks what proxy mode demands with --proxy', () => {
  const text = GOOD.replace('",backend', '",protocol="udp",backend');
  expect(run(text).status).toBe(0);
  expect(run(text, { passthrough: true }).status).toBe(0);
  const err = ['lb4.toml:1:50: frontends.a.protocol: "udp": proxy mode carries TCP alone; needed: --passthrough or --dsr'];
  expect(run(text, { proxy: true })).toEqual({ status: 78, out: [], err });
});

it.each([
  ['proxy', GOOD.replace('",backend', '",protocol="all",backend')],
  ['proxy', `${GOOD}backends.b.nat="destination"`],
  ['passthrough', GOOD.replace('192.0.2.1:', '[2001:db8::1]:')],
  ['dsr', GOOD.replace('2.2:80', '2.2:8080')],
  ['inline', GOOD],
] as const)('refuses for --%s what a start in that mode does, in its words: %s', (mode, text) => {
  const { status, err } = run(text, { [mode]: true });
  expect(status).toBe(78);
  const start = () => readConfig({ file: join(directory, 'lb4.toml'), mode, log: { warn: () => {} } }, { reload: false });
  expect(start).toThrow(expect.objectContaining({ message: err.join('\n').replaceAll('lb4.toml', join(directory, 'lb4.toml')) }));
});

it('checks for one mode at a time', () => {
  expect(() => run(GOOD, { passthrough: true, dsr: true })).toThrow(UsageError);
  expect(() => run(GOOD, { passthrough: true, proxy: true })).toThrow('--passthrough and --proxy exclude each other');
});

it('warns of commands that this host cannot run, if they are given with their whole path', () => {
  const script = join(directory, 'script');
  writeFileSync(script, '#!/bin/sh\n', { mode: 0o644 });
  const of = (program: string) => run(`${GOOD}backends.b.health_check="exec"\nbackends.b.health_check_command=["${program}", "-q"]`);
  const warning = 'lb4.toml:4:34: warning: backends.b.health_check_command.0:';
  expect(of(join(directory, 'missing'))).toMatchObject({ status: 0, err: [`${warning} "missing" does not exist here`] });
  expect(of(script)).toMatchObject({ status: 0, err: [`${warning} "script" is not executable here`] });
  expect(of('/')).toMatchObject({ status: 0, err: [`${warning} "/" is not a program`] });
  for (const program of ['/bin/sh', 'missing', './missing']) expect(of(program)).toMatchObject({ status: 0, err: [] });
});

it('asks the kernel which processors workers can be pinned to, for a packet mode, as a start does', () => {
  const usable = native().usableCpus();
  // On this host, by its address: beside that it is no good frontend of a packet mode.
  const toml = (cpus: number) => `${GOOD.replace('192.0.2.1', '127.0.0.1')}passthrough.cpus="${cpus}"`;
  const about = (lines: readonly string[]) => lines.flatMap((line) => line.split('\n')).filter((line) => line.includes('passthrough.cpus'));
  const strange = about(run(toml(1023), { passthrough: true }).err);
  expect(strange).toEqual([
    `lb4.toml:3:18: passthrough.cpus: "1023": this process may not use 1023, or there is none; allowed here: ${formatCpus(usable)}`,
  ]);
  expect(about(run(toml(usable[0] ?? 0), { passthrough: true }).err)).toEqual([]);
  expect(about(run(toml(1023)).err)).toEqual([]);
  run(toml(1023));
  const start = () => readConfig({ file: join(directory, 'lb4.toml'), mode: 'dsr', log: { warn: () => {} } }, { reload: false });
  expect(start).toThrow(strange[0]);
});
