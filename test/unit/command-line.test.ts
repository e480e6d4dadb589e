/** What lb4 makes of a command line, before it does anything. */
import { chmodSync, chownSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { describe, expect, test, vi } from 'vitest';
import { toldError } from '../../src/cli/lines.ts';
import { ENVIRONMENT, examplesOf } from '../../src/cli/manual.ts';
import { configFile, findConfig } from '../../src/cli/options.ts';
import { makeProgram, type Options } from '../../src/cli/program.ts';
import { ConfigError } from '../../src/errors.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** What lb4 itself would be started with; throws as lb4 would end. Commands do not run. */
async function parsed(line: string): Promise<{ command: string; options: Partial<Options> }> {
  let options: Partial<Options> = {};
  let command = 'lb4';
  const program = makeProgram('1.2.3', async (given) => void (options = given));
  for (const one of leaves(program).filter((leaf) => leaf !== program))
    one.action(() => {
      command = one.name();
      options = one.opts();
    });
  program.configureOutput({ writeErr: () => {}, writeOut: () => {} });
  await program.parseAsync(line.split(' ').slice(1), { from: 'user' });
  return { command, options };
}

function leaves(command: Command): Command[] {
  return [command, ...command.commands.flatMap(leaves)];
}

describe('a word that is no command', () => {
  test.each([
    ['lb4 chek', 'there is no command "chek"; did you mean "check"?; see lb4 --help'],
    // Not: an option that is unknown, which the command meant has.
    ['lb4 chek --strict x.toml', 'there is no command "chek"; did you mean "check"?; see lb4 --help'],
    ['lb4 --dsr docter', 'there is no command "docter"; did you mean "doctor"?; see lb4 --help'],
    ['lb4 web.toml', 'there is no command "web.toml"; a file is named by --config=web.toml; see lb4 --help'],
    ['lb4 frobnicate', expect.stringMatching(/^there is no command "frobnicate"; there are: check, doctor, rules/)],
  ])('%s', async (line, message) => {
    await expect(parsed(line)).rejects.toMatchObject({ code: 'LB4_USAGE', message });
  });

  test.each([
    ['glb', 'there is no command "import glb"; GLB\'s files: lb4 glb import TABLE [DIRECTOR]; see lb4 import --help'],
    ['haprxy', 'there is no command "import haprxy"; did you mean "haproxy"?; see lb4 import --help'],
    ['nginx', 'there is no command "import nginx"; there are: haproxy, ipvsadm; see lb4 import --help'],
  ])('lb4 import %s FILE', async (word, message) => {
    const line = makeProgram('1.2.3', async () => {}).parseAsync(['import', word, 'FILE'], { from: 'user' });
    await expect(line).rejects.toMatchObject({ code: 'LB4_USAGE', message });
  });
});

describe('the file', () => {
  test.each(['lb4', 'lb4 check', 'lb4 rules', 'lb4 doctor'])('%s takes it by --config, before and after', async (command) => {
    const [lb4, ...rest] = command.split(' ');
    const options = { config: 'a.toml', dsr: true };
    for (const line of [`${command} --dsr --config=a.toml`, [lb4, '--dsr', '--config', 'a.toml', ...rest].join(' ')])
      expect(await parsed(line)).toMatchObject({ command: rest[0] ?? 'lb4', options });
  });

  test.each(['lb4 --config=', 'lb4 check --config=', 'lb4 rules --config=', 'lb4 doctor --config='])('%s is told as such', async (line) => {
    await expect(parsed(line)).rejects.toMatchObject({ code: 'LB4_USAGE', message: '--config= names no file' });
  });

  test("a command's own option is the one that counts", async () => {
    expect((await parsed('lb4 --config=a.toml check --config=b.toml')).options.config).toBe('b.toml');
  });

  test('an option before a command that has none such is not passed over', async () => {
    await expect(parsed('lb4 --takeover check')).rejects.toMatchObject({ message: /^lb4 check takes no --takeover/ });
    await expect(parsed('lb4 --no-rules rules')).rejects.toMatchObject({ message: /^lb4 rules takes no --no-rules/ });
  });

  test("without a name: lb4.toml, else Convey's config.toml, and one warning where both are there", () => {
    const [directory, before] = [mkdtempSync(join(tmpdir(), 'lb4-line-')), process.cwd()];
    const warnings: string[] = [];
    const find = () => configFile(undefined, (message) => warnings.push(message));
    try {
      process.chdir(directory);
      expect(find).toThrow(ConfigError);
      expect(find).toThrow('lb4.toml: there is none in this directory, and no config.toml; name the file, --config=FILE');
      expect(findConfig(undefined, expect.unreachable)).toBeUndefined();
      writeFileSync('config.toml', '');
      expect(find()).toBe('config.toml');
      writeFileSync('lb4.toml', '');
      expect(warnings).toEqual([]);
      expect(find()).toBe('lb4.toml');
      expect(warnings).toEqual([expect.stringMatching(/^both lb4\.toml and config\.toml are here: lb4\.toml is read/)]);
      rmSync('config.toml');
      chmodSync('lb4.toml', 0o666);
      expect(find()).toBe('lb4.toml');
      expect(warnings.at(-1)).toMatch(/^lb4\.toml of this directory is read, which may be written by everybody/);
      if (process.getuid?.() === 0) {
        chownSync('lb4.toml', 4242, 4242);
        expect(find()).toBe('lb4.toml');
        expect(warnings.at(-1)).toMatch(/^lb4\.toml of this directory is read, which belongs to user 4242/);
        vi.stubEnv('SUDO_UID', '4242');
        chmodSync('lb4.toml', 0o644);
        expect(find()).toBe('lb4.toml');
        expect(warnings).toHaveLength(3);
      }
    } finally {
      vi.unstubAllEnvs();
      process.chdir(before);
      rmSync(directory, { recursive: true });
    }
  });
});

test('each line of an error begins with lb4, mistakes in a file as well', () => {
  const mistake = { severity: 'error', file: 'a.toml', position: { line: 1, column: 2 }, path: 'x', message: 'is wrong' } as const;
  expect(toldError(new ConfigError([mistake, mistake]))).toBe('lb4: a.toml:1:2: x: is wrong\n'.repeat(2));
});

describe('--help', () => {
  const program = makeProgram('1.2.3', async () => {});

  test.each(leaves(program).map((command) => ({ command, name: command.name() })))(
    'of $name has examples that it takes',
    async ({ command }) => {
      expect(examplesOf(command).length).toBeGreaterThan(0);
      for (const { command: line } of examplesOf(command)) await parsed(line.replace(/ >.*/, '').replace(/.*\| /, ''));
    },
  );

  test('names every environment variable that the code reads', () => {
    const read = ['src', 'iptables']
      .flatMap((folder) => readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map((name) => join(ROOT, folder, name)))
      .filter((name) => /\.(ts|sh)$/.test(name))
      .flatMap((name) => [...readFileSync(name, 'utf8').matchAll(/process\.env(?:\['|\.)(\w+)|\$\{?(LB4_\w+)/g)])
      .map(([, inCode, inShell]) => inCode ?? inShell);
    expect([...new Set(read)].filter((name) => name !== 'PATH').toSorted()).toEqual(Object.keys(ENVIRONMENT).toSorted());
  });
});
