/** Who has which index is written down; where that fails everything goes on, and one line says so. */
import { expect, test } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { Members } from '../../src/service/members.ts';
import { MembersFile } from '../../src/service/members-file.ts';

const configOf = (servers: string) =>
  parseConfig(`[frontends.web]\nlisten_addr = "192.0.2.1:80"\nbackend = "app"\n[backends.app.servers]\n${servers}`, 'test.toml').config;

test('a full disk refuses nobody: told once, tried with each plan, told again when it works, and once more when it fails anew', () => {
  const members = new Members(configOf('a = { addr = "10.0.0.1:80" }'));
  const told: string[] = [];
  const written: string[] = [];
  const disk = { isFull: true };
  const tell =
    (level: string) =>
    (...[, text]: unknown[]) =>
      void told.push(`${level}: ${String(text)}`);
  const file = new MembersFile(members, { info: tell('info'), warn: tell('warn') }, (_, text) => {
    if (disk.isFull) throw new Error('ENOSPC: no space left on device, write');
    written.push(text);
  });
  const change = (servers: string) => {
    members.enrol(configOf(servers));
    file.save();
  };
  file.save();
  file.save();
  change('b = { addr = "10.0.0.2:80" }');
  expect([told.length, written]).toEqual([1, []]);
  disk.isFull = false;
  file.save();
  expect(JSON.parse(written[0])).toMatchObject({ state: { servers: { next: 2 } } });
  disk.isFull = true;
  change('c = { addr = "10.0.0.3:80" }');
  expect(told).toEqual([
    expect.stringMatching(/^warn: .*could not be written down/),
    expect.stringMatching(/^info: .*again/),
    expect.stringMatching(/^warn/),
  ]);
});
