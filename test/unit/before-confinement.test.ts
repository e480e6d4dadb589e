/** What is done while there are all privileges: programs of an lb4 that is just dying are nobody's only once it is dead. */
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { confineBalancer } from '../../src/cli/confine.ts';
import { prepare } from '../../src/io/before-confinement.ts';

const done: string[] = [];

vi.mock('../../src/io/namespace-lock.ts', () => ({
  deathIsOver: async () => {
    await new Promise((resolve) => setImmediate(resolve));
    done.push('dead');
  },
  isNamespaceFree: () => true,
}));
// As on a host where nobody has loaded the legacy tables.
vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  return { ...fs, existsSync: (path: string) => !path.startsWith('/proc/net/ip') && fs.existsSync(path) };
});
vi.mock('../../src/io/kept-abandoned.ts', () => ({ removeAbandoned: () => {} }));
vi.mock('../../src/io/pins.ts', () => ({ hasPins: () => false, mountBpffs: () => done.push('mounted') }));
vi.mock('../../src/io/strays.ts', () => ({ removeStrays: () => done.push('removed') }));
vi.mock('../../src/io/confinement.ts', () => ({ isConfined: () => false, confine: () => done.push('confined') }));

test('strays are removed after the death of who had them', async () => {
  done.length = 0;
  await prepare({ isPacketMode: true, mayBeFast: true });
  expect(done).toEqual(['dead', 'removed', 'mounted']);
});

test('nothing is touched for a command line that will be refused, but privileges are given away all the same', async () => {
  done.length = 0;
  await confineBalancer(['--passthrough', '--no-rule']);
  expect(done).toEqual(['confined']);
  await confineBalancer(['--passthrough', '--no-rules']);
  expect(done).toEqual(['confined', 'dead', 'removed', 'confined']);
});

/** Those that modprobe was asked for where both tools call themselves so. */
async function modules(version: string, ...args: string[]): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'lb4-legacy-'));
  const [list, ...programs] = ['list', 'modprobe', 'iptables', 'ip6tables'].map((name) => join(directory, name)) as [string, ...string[]];
  for (const program of programs) {
    writeFileSync(program, program.endsWith('modprobe') ? `#!/bin/sh\necho "$1" >>'${list}'\n` : `#!/bin/sh\necho '${version}'\n`);
    chmodSync(program, 0o755);
  }
  writeFileSync(list, '');
  vi.stubEnv('PATH', `${directory}:${process.env['PATH'] ?? ''}`);
  try {
    await confineBalancer(args);
    return readFileSync(list, 'utf8');
  } finally {
    vi.unstubAllEnvs();
    rmSync(directory, { recursive: true });
  }
}

test.each(['--passthrough', '--fan-out'])(
  '%s: the legacy tables of both families are loaded, where the tools are of that kind',
  async (mode) => {
    expect(await modules('iptables v1.8.10 (legacy)', mode)).toBe('ip_tables\nip6_tables\n');
    expect(await modules('iptables v1.8.10 (nf_tables)', mode)).toBe('');
    expect(await modules('iptables v1.8.10 (legacy)', mode, '--no-rules')).toBe('');
  },
);

test('proxy mode loads none', async () => {
  expect(await modules('iptables v1.8.10 (legacy)')).toBe('');
});
