/** `npm run docs` runs this file with --update, which writes the page. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { renderManPage } from '../../src/cli/man-page.ts';
import { makeProgram } from '../../src/cli/program.ts';

const PAGE = fileURLToPath(new URL('../../docs/lb4.8', import.meta.url));

test('docs/lb4.8 is what the commands say', async () => {
  await expect(renderManPage(makeProgram('1.2.3', async () => {}))).toMatchFileSnapshot(PAGE);
});

const hasGroff = spawnSync('groff', ['--version']).status === 0;

describe.skipIf(!hasGroff)(`groff${hasGroff ? '' : ' is not installed (package groff-base)'}`, () => {
  test('takes it without a warning, and shows what --help does', () => {
    const { status, stdout, stderr } = spawnSync('groff', ['-ww', '-man', '-Tutf8', '-P-cbou', PAGE], { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const shown = stdout.replaceAll(/\s+/g, ' ');
    for (const [option] of readFileSync(PAGE, 'utf8')
      .replaceAll('\\-', '-')
      .matchAll(/--[a-z][\w-]*/g))
      expect(shown).toContain(option);
    expect(shown).toContain('FILE What to read; - is standard input.');
    expect(shown).toContain('lb4 rules --dsr --for 10.0.0.11 >server.sh');
  });
});
