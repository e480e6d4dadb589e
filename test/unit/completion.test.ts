/** Completions have every command and option, and bash completes by them. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { completionScript } from '../../src/cli/completion.ts';
import { type Described, described } from '../../src/cli/described.ts';
import { makeProgram } from '../../src/cli/program.ts';

const program = makeProgram('1.2.3', async () => {});
const all = (node: Described): Described[] => [node, ...node.commands.flatMap(all)];
const nodes = all(described(program));
const directory = mkdtempSync(join(tmpdir(), 'lb4-completion-'));
afterAll(() => rmSync(directory, { recursive: true }));

describe.each(['bash', 'zsh', 'fish'])('%s', (shell) => {
  const script = completionScript(program, shell);
  const has = (name: string) => spawnSync(name, ['--version']).error === undefined;

  test('has every command and option', () => {
    const words = nodes.flatMap(({ name, options }) => [
      name,
      ...options.flatMap(({ names }) => names.map((one) => one.replace(/^-+/, ''))),
    ]);
    expect(words.length).toBeGreaterThan(30);
    expect(words.filter((word) => !new RegExp(`(?<![\\w-])-{0,2}${word}(?![\\w-])`).test(script))).toEqual([]);
  });

  test.skipIf(!has(shell))(`is a script${has(shell) ? '' : `: ${shell} is not installed`}`, () => {
    const file = join(directory, `lb4.${shell}`);
    writeFileSync(file, script);
    const { status, stderr } = spawnSync(shell, ['-n', file], { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });
});

describe('bash completes', () => {
  /** Words as bash takes a line apart; the last one is completed. */
  const complete = (...words: string[]): string[] => {
    const file = join(directory, 'lb4');
    writeFileSync(file, completionScript(program, 'bash'));
    const array = words.map((word) => `'${word}'`).join(' ');
    const run = `source ${file}; COMP_WORDS=(${array}); COMP_CWORD=${words.length - 1}; _lb4; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { status, stdout, stderr } = spawnSync('bash', ['-euc', run], { encoding: 'utf8', cwd: directory });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    return stdout.split('\n').filter(Boolean).toSorted();
  };
  writeFileSync(join(directory, 'here.toml'), '');

  test.each([
    [['lb4', 'ch'], ['check']],
    [['lb4', '--pass'], ['--passthrough']],
    [['lb4', '--dsr', 'rules', '--re'], ['--remove']],
    [['lb4', 'import', ''], ['haproxy', 'help', 'ipvsadm', '--help', '-h'].toSorted()],
    [['lb4', 'import', 'haproxy', 'he'], ['here.toml']],
    [['lb4', 'check', 'he'], ['here.toml']],
    [['lb4', '--config', 'he'], ['here.toml']],
    [['lb4', '--config', '=', 'he'], ['here.toml']],
    [['lb4', 'rules', '--for', ''], []],
    [['lb4', 'completion', 'f'], ['fish']],
    [['lb4', 'help', 'im'], ['import']],
    [
      ['lb4', 'import', 'help', ''],
      ['haproxy', 'ipvsadm'],
    ],
  ])('%j', (words, expected) => expect(complete(...words)).toEqual(expected));
});
