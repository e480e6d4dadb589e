import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { rules } from '../../src/cli/rules.ts';
import { parseConfig } from '../../src/config/load.ts';
import { rulesFor } from '../../src/rules/from-config.ts';
import { renderBalancerScript, renderTemplate } from '../../src/rules/render.ts';
import { runRules } from '../../src/rules/run.ts';
import type { RulesInput } from '../../src/rules/types.ts';

const input: RulesInput = {
  mode: 'passthrough',
  frontends: [
    { address: '192.0.2.1', port: 80 },
    { address: '192.0.2.1', port: 443 },
  ],
  returns: [
    { server: '198.51.100.7', serverPort: 8080, source: '192.0.2.1' },
    { server: '198.51.100.7', serverPort: 8080, source: '192.0.2.1' },
  ],
};

/** What the script's own functions make of its configuration. */
function rulesOf(script: string): string[] {
  const functions = script.replace(/^main "\$@"$/m, 'wanted_rules');
  return execFileSync('sh', ['-s'], { input: functions, encoding: 'utf8' }).trim().split('\n');
}

const tag = '-m comment --comment lb4 -j DROP';

describe('the balancer script', () => {
  test('drops what clients send to frontends and what servers answer, each once', () => {
    expect([...new Set(rulesOf(renderBalancerScript(input)))]).toEqual([
      `-d 192.0.2.1/32 -p tcp -m tcp --dport 80 ${tag}`,
      `-d 192.0.2.1/32 -p tcp -m tcp --dport 443 ${tag}`,
      `-s 198.51.100.7/32 -d 192.0.2.1/32 -p tcp -m tcp --sport 8080 --dport 33768:61000 ${tag}`,
    ]);
    expect(rulesOf(renderBalancerScript(input))).toHaveLength(3);
  });

  test('in dsr drops nothing that servers send', () => {
    expect(rulesOf(renderBalancerScript({ ...input, mode: 'dsr' }))).toHaveLength(2);
  });

  test('of a configuration without frontends has no rules', () => {
    expect(rulesOf(renderBalancerScript({ mode: 'passthrough', frontends: [], returns: [] }))).toEqual(['']);
  });

  test('passes shellcheck, filled in', () => {
    const check = spawnSync('shellcheck', ['-s', 'sh', '-'], { input: renderBalancerScript(input), encoding: 'utf8' });
    if (check.error !== undefined) return; // not installed
    expect(check.stdout).toBe('');
  });
});

describe('only addresses and ports reach the shell', () => {
  const hostile = ["1.2.3.4'; touch /tmp/owned; '", '1.2.3.4\n', '$(id)', '::1', 'example.org', '1.2.3', '', '1.2.3.4/0'];
  test.each(hostile)('address %j', (address) => {
    expect(() => renderBalancerScript({ ...input, frontends: [{ address, port: 80 }] })).toThrow(RangeError);
    const server = { server: address, serverPort: 80, source: '192.0.2.1' };
    expect(() => renderBalancerScript({ ...input, returns: [server] })).toThrow(RangeError);
    const source = { server: '192.0.2.9', serverPort: 80, source: address };
    expect(() => renderBalancerScript({ ...input, returns: [source] })).toThrow(RangeError);
  });

  test.each([0, -1, 65536, 1.5, Number.NaN, '80;id' as unknown as number])('port %s', (port) => {
    expect(() => renderBalancerScript({ ...input, frontends: [{ address: '192.0.2.1', port }] })).toThrow(RangeError);
  });

  test('mode', () => {
    expect(() => renderBalancerScript({ ...input, mode: "dsr'" as 'dsr' })).toThrow(RangeError);
  });

  test('any setting of any template', () => {
    for (const value of ["'", '"', '`', '$x', '\\', 'a b']) {
      expect(() => renderTemplate('balancer.sh', { MODE: value })).toThrow(RangeError);
    }
  });
});

describe('running it', () => {
  test('fails with its own line and exit code', async () => {
    const running = runRules(renderBalancerScript(input), 'status', { iptables: 'no-such-iptables' });
    await expect(running).rejects.toMatchObject({
      exitCode: 77,
      message: expect.stringMatching(/^rules: (no-such-iptables not found|needs root)/) as string,
    });
  });

  test('the bare template does nothing', async () => {
    await expect(runRules(renderTemplate('balancer.sh', { MODE: '' }), 'install')).rejects.toThrow('rules: this is the template');
  });
});

const toml = `
[frontends.web]
listen_addr = "192.0.2.1:80"
backend = "web_out"
[frontends.alt]
listen_addr = "192.0.2.2:8080"
backend = "web_out"
[backends.web_out]
[backends.web_out.servers.a]
addr = "198.51.100.1:80"
[backends.web_out.servers.b]
addr = "198.51.100.2:8080"
weight = 0
`;

describe('the rules of a configuration', () => {
  const { config } = parseConfig(toml, 'lb4.toml');

  test('passthrough: each frontend, and each of its servers towards its address', () => {
    const { frontends, returns } = rulesFor(config, 'passthrough');
    expect(frontends.map(({ address, port }) => `${address}:${port}`)).toEqual(['192.0.2.1:80', '192.0.2.2:8080']);
    expect(returns.map(({ server, serverPort, source }) => `${server}:${serverPort}>${source}`)).toEqual([
      '198.51.100.1:80>192.0.2.1',
      '198.51.100.2:8080>192.0.2.1',
      '198.51.100.1:80>192.0.2.2',
      '198.51.100.2:8080>192.0.2.2',
    ]);
  });

  test('dsr: the frontends alone', () => {
    expect(rulesFor(config, 'dsr').returns).toEqual([]);
  });
});

describe('lb4 rules', () => {
  const directory = mkdtempSync(join(tmpdir(), 'lb4-rules-'));
  const file = join(directory, 'lb4.toml');
  writeFileSync(file, toml);
  afterAll(() => rmSync(directory, { recursive: true }));

  async function said(options: Partial<Parameters<typeof rules>[0]>) {
    const text = { out: '', err: '' };
    const output = { out: (line: string) => (text.out += line), err: (line: string) => (text.err += line) };
    return { status: await rules({ config: file, ...options }, output), ...text };
  }

  test('prints the script, passthrough unless told', async () => {
    const { status, out, err } = await said({});
    expect({ status, err }).toEqual({ status: 0, err: '' });
    expect(rulesOf(out)).toHaveLength(6);
    expect((await said({ passthrough: true })).out).toBe(out);
    expect(rulesOf((await said({ dsr: true })).out)).toHaveLength(2);
  });

  test('refuses what excludes each other, and reports a bad file', async () => {
    expect((await said({ dsr: true, passthrough: true })).status).toBe(2);
    expect((await said({ apply: true, status: true })).status).toBe(2);
    expect((await said({ config: join(directory, 'none.toml') })).status).toBe(78);
  });
});
