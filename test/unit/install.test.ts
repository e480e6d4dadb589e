/** What `lb4 install` makes and `lb4 uninstall` takes away: on a directory that stands for a host, whose programs are noted, not run. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Host } from '../../src/install/host.ts';
import {
  type Asset,
  assertFitting,
  carryOut,
  installSteps,
  RECORD,
  type Step,
  stepText,
  UNIT,
  uninstallSteps,
} from '../../src/install/steps.ts';
import { placeOf, unitFor } from '../../src/install/unit.ts';

const CONFIG = '/etc/lb4/lb4.toml';
const MAN = '/usr/local/share/man/man8/lb4.8';
const ASSETS: readonly Asset[] = [
  { path: CONFIG, text: 'example\n', once: true },
  { path: MAN, text: 'page\n', unless: ['/usr/share/man/man8/lb4.8.gz'] },
];

let root: string;
let users: Set<string>;
let ran: string[];
let host: Host;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lb4-install-'));
  for (const directory of ['run/systemd/system', 'etc/systemd/system', 'var/lib', 'usr/local/share']) put(`/${directory}/.keep`, '');
  users = new Set();
  ran = [];
  host = new Host(root, (program, args) => {
    if (program === 'getent' && !users.has(args[1] ?? '')) throw new Error('2');
    if (program === 'getent') return;
    if (program === 'useradd') users.add('lb4');
    if (program === 'userdel') users.delete('lb4');
    ran.push([program, ...args].join(' '));
    if (args[0] === 'reset-failed') throw new Error('Unit lb4.service not loaded.');
  });
});
afterEach(() => rmSync(root, { recursive: true }));

function put(path: string, text: string): void {
  mkdirSync(join(root, dirname(path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

const read = (path: string) => readFileSync(join(root, path), 'utf8');
const run = (steps: readonly Step[]) => {
  for (const step of steps) carryOut(host, step);
};
const install = (unit = 'unit\n') => run(installSteps(host, unit, ASSETS));
const uninstall = () => run(uninstallSteps(host));
/** All of the host. */
const state = () => [readdirSync(root, { recursive: true, encoding: 'utf8' }).toSorted(), [...users]];

test('each step is said, and done in an order in which a later one needs no missing one', () => {
  const steps = installSteps(host, 'unit\n', ASSETS);
  expect(steps.map(stepText)).toEqual([
    'make /var/lib/lb4',
    `write ${RECORD}`,
    'make /etc/lb4',
    'make /usr/local/share/man',
    'make /usr/local/share/man/man8',
    expect.stringMatching(/^run useradd --system .*nologin lb4$/),
    `write ${UNIT}`,
    `write ${CONFIG}`,
    `write ${MAN}`,
    'run systemctl daemon-reload',
  ]);
  run(steps);
  expect([read(UNIT), read(CONFIG), read(MAN)]).toEqual(['unit\n', 'example\n', 'page\n']);
  ran = [];
  uninstall();
  const systemctl = ['disable --now lb4.service', 'daemon-reload', 'reset-failed lb4.service'].map((what) => `systemctl ${what}`);
  expect(ran).toEqual([...systemctl, 'userdel lb4']);
});

test('an end leaves the host as it was, wherever the installation was cut off', () => {
  const before = state();
  const count = installSteps(host, 'unit\n', ASSETS).length;
  for (let done = count; done > 0; done--) {
    const steps = installSteps(host, 'unit\n', ASSETS);
    run(steps.slice(0, done));
    if (host.has(RECORD)) {
      uninstall();
      expect(state(), `after ${done} steps`).toEqual(before);
    } else {
      // An empty directory, before anything is written down.
      expect(() => uninstallSteps(host)).toThrow('lb4 install has made nothing');
      for (const step of steps.slice(0, done).toReversed()) if (step.act === 'make') host.removeDirectory(step.path);
    }
  }
});

test("what is the administrator's stays: a configuration that was there or was changed, a user, drop-ins", () => {
  put(CONFIG, 'mine\n');
  put(`${UNIT}.d/override.conf`, '[Service]\n');
  users.add('lb4');
  const before = state();
  install();
  expect(read(CONFIG)).toBe('mine\n');
  uninstall();
  expect(state()).toEqual(before);

  rmSync(join(root, CONFIG));
  install();
  put(CONFIG, 'changed\n');
  const steps = uninstallSteps(host).map(stepText);
  expect(steps).toContain(`leave ${CONFIG} as it is: it was changed`);
  expect(steps).toContain(`leave ${UNIT}.d as it is: it is not by lb4 install`);
  uninstall();
  expect([read(CONFIG), existsSync(join(root, UNIT)), [...users]]).toEqual(['changed\n', false, ['lb4']]);
});

test("once more: what is lb4's is written anew, the configuration is not, and all of it still goes", () => {
  const before = state();
  install();
  const newer: Asset[] = ASSETS.map((asset) => ({ ...asset, text: `new ${asset.text}` }));
  const steps = installSteps(host, 'new unit\n', newer);
  expect(steps.map(stepText).filter((text) => text.startsWith('leave'))).toEqual([`leave ${CONFIG} as it is: there is one`]);
  run(steps);
  expect([read(UNIT), read(CONFIG), read(MAN)]).toEqual(['new unit\n', 'example\n', 'new page\n']);
  uninstall();
  expect(state()).toEqual(before);
});

test('a manual page that is there already, by npm or a package, does', () => {
  put('/usr/share/man/man8/lb4.8.gz', '');
  expect(installSteps(host, 'unit\n', ASSETS).map(stepText)).toContain(`leave ${MAN} as it is: there is /usr/share/man/man8/lb4.8.gz`);
});

test("what a killed lb4 has left in /run/lb4 stays, and is told; the unit's empty directory goes", () => {
  install();
  put('/run/lb4/kept-1', '');
  const notes = uninstallSteps(host).map((step) => carryOut(host, step));
  expect(notes.filter(Boolean)).toEqual([expect.stringMatching(/^\/run\/lb4 stays: .*lb4 rules --remove/)]);
  install();
  const steps = uninstallSteps(host);
  // As the service does when it stops.
  rmSync(join(root, '/run/lb4/kept-1'));
  run(steps);
  expect(host.has('/run/lb4')).toBe(false);
});

test('a log that the service has written stays, and is told; an empty directory for it goes', () => {
  install();
  put('/var/log/lb4/connections.log', 'line\n');
  const notes = uninstallSteps(host).map((step) => carryOut(host, step));
  expect(notes.filter(Boolean)).toEqual(['/var/log/lb4 stays: what lb4 has logged is in it']);
  rmSync(join(root, '/var/log/lb4/connections.log'));
  install();
  uninstall();
  expect(host.has('/var/log/lb4')).toBe(false);
});

test.each([
  ['without systemd', () => rmSync(join(root, 'run/systemd'), { recursive: true }), 'systemd does not run'],
  ["with the Debian package's unit", () => put('/usr/lib/systemd/system/lb4.service', ''), "is a package's"],
])('%s it refuses', (_, prepare, message) => {
  prepare();
  expect(() => assertFitting(host)).toThrow(message);
});

test("a unit that somebody else has written is nobody's to overwrite", () => {
  put(UNIT, 'mine\n');
  expect(() => installSteps(host, 'unit\n', ASSETS)).toThrow(`${UNIT} is there, and not by lb4 install`);
});

test('where nothing was installed there is nothing to take away; a record that was spoilt is told', () => {
  expect(() => uninstallSteps(host)).toThrow(`lb4 install has made nothing on this host (there is no ${RECORD})`);
  put(RECORD, 'spoilt');
  expect(() => uninstallSteps(host)).toThrow(`${RECORD}: not what lb4 install has written`);
});

test('a program that fails ends it with what it said', () => {
  const failing = new Host(root, () => {
    throw Object.assign(new Error('Command failed'), { stderr: 'useradd: UID range is used up\n' });
  });
  expect(() => carryOut(failing, { act: 'run', program: 'useradd', args: ['lb4'] })).toThrow('useradd lb4: useradd: UID range is used up');
});

describe('the unit', () => {
  const packaged = readFileSync(new URL('../../contrib/systemd/lb4.service', import.meta.url), 'utf8');
  const without = (text: string) => text.split('\n').filter((line) => !/^(#.*lb4 install|ExecStart|Environment=PATH)/.test(line));

  test("is the package's, but for where lb4 and its Node.js are", () => {
    const place = { directory: '/opt/node/lib/node_modules/lb4', node: '/opt/node/bin/node', found: '/usr/bin/node' };
    const unit = unitFor(packaged, place);
    expect(without(unit)).toEqual(without(packaged));
    expect(unit).toContain('\nExecStart=/opt/node/lib/node_modules/lb4/bin/lb4-service $LB4_OPTIONS --config=/etc/lb4/lb4.toml\n');
    expect(unit).toContain('\nEnvironment=PATH=/opt/node/bin:/usr/local/sbin:');
    expect(unitFor(packaged, { ...place, found: place.node })).not.toContain('Environment=PATH');
  });

  test('can run only what it sees and its user may read', () => {
    expect(() => placeOf('/root/.nvm/lb4', '/usr/bin/node')).toThrow('the unit does not see /root/.nvm/lb4');
    expect(() => placeOf('/opt/a b/lb4', '/usr/bin/node')).toThrow('a unit takes letters');
    const directory = mkdtempSync(fileURLToPath(new URL('../../build/install-', import.meta.url)));
    const fits = () => placeOf(directory, '/usr/bin/env');
    try {
      writeFileSync(join(directory, 'package.json'), '');
      expect(fits).toThrow(`may not enter ${directory}`);
      chmodSync(directory, 0o755);
      expect(fits).not.toThrow();
      chmodSync(join(directory, 'package.json'), 0o600);
      expect(fits).toThrow(`may not read ${directory}`);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
