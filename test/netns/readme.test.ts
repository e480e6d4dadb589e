/** README's commands as they stand, in a directory with README's file. */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cable, Lab, ROOT } from '../lab/lab.ts';
import { NOTHING, traces } from '../lab/traces.ts';

test('what "Using it" says forwards', async () => {
  await using lab = new Lab();
  const host = lab.namespace('host');
  cable(host, 'eth0', '192.0.2.1/24', lab.namespace('router'), 'eth0', '192.0.2.254/24');
  host.later('route add default via 192.0.2.254');

  const [, section = ''] = readFileSync(join(ROOT, 'README.md'), 'utf8').split('\n## Using it\n');
  const [, example = ''] = /```toml\n([\s\S]*?)```/.exec(section) ?? [];
  const [, commands = ''] = /```\n([\s\S]*?)```/.exec(section.replace(/```toml\n[\s\S]*?```/, '')) ?? [];
  const lines = commands.trim().split('\n');
  const [, curl = ''] = /`(curl [^`]*)`/.exec(section) ?? [];
  expect(lines.map((line) => line.split('  ')[0])).toEqual(['make build', 'bin/lb4 check', 'sudo bin/lb4 --passthrough']);

  // It is built, and this is root.
  const [directory, tools] = [join(lab.directory, 'checkout'), join(lab.directory, 'tools')];
  for (const made of [directory, tools]) mkdirSync(made);
  writeFileSync(join(tools, 'make'), '#!/bin/sh\n', { mode: 0o755 });
  writeFileSync(join(tools, 'sudo'), '#!/bin/sh\nexec "$@"\n', { mode: 0o755 });
  symlinkSync(join(ROOT, 'bin'), join(directory, 'bin'));
  writeFileSync(join(directory, 'lb4.toml'), example);
  const shell = (line: string) => ['env', '-C', directory, `PATH=${tools}:${process.env['PATH']}`, 'sh', '-c', line];

  for (const line of lines.slice(0, -1)) expect(await host.run(...shell(line)), line).toMatchObject({ code: 0, stderr: '' });
  const running = host.start(shell(`exec ${lines.at(-1)}`));
  await running.line(/"msg":"ready"/);
  expect(JSON.parse((await host.run(...shell(curl))).stdout)).toMatchObject({ frontends: { web: {} } });
  expect(await running.stop('SIGTERM')).toEqual({ code: 0, signal: null });
  expect(traces(host)).toEqual(NOTHING);
});
