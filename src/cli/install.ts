/** `lb4 install` and `lb4 uninstall`: lb4 as a systemd service of this host. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { PrivilegeError } from '../errors.ts';
import { Host } from '../install/host.ts';
import { type Asset, assertFitting, carryOut, installSteps, type Step, stepText, uninstallSteps } from '../install/steps.ts';
import { placeOf, unitFor } from '../install/unit.ts';
import { ownFile, PACKAGE } from '../own-files.ts';
import { completionScript } from './completion.ts';

export interface InstallOptions {
  readonly dryRun?: boolean | undefined;
}

const NEXT = `next: write /etc/lb4/lb4.toml for this host, and the mode into /etc/default/lb4; then: systemctl enable --now lb4
(where it runs already: systemctl restart lb4, which ends no connection)
`;

/** @param program whose completion is put there */
export function install(options: InstallOptions, program: Command): void {
  const all = (host: Host) => installSteps(host, unitText(), assets(program));
  if (perform('install', options, all)) process.stdout.write(NEXT);
}

export function uninstall(options: InstallOptions): void {
  perform('uninstall', options, uninstallSteps);
}

/** Says each step before it is done. Returns whether anything was. */
function perform(name: string, { dryRun = false }: InstallOptions, stepsOn: (host: Host) => readonly Step[]): boolean {
  const host = new Host();
  assertFitting(host);
  if (!dryRun && process.getuid?.() !== 0)
    throw new PrivilegeError(`${name} needs root (sudo); --dry-run says what it would do, as anybody`);
  // What it makes all may read.
  process.umask(0o022);
  for (const step of stepsOn(host)) {
    process.stdout.write(`${dryRun ? 'would ' : ''}${stepText(step)}\n`);
    const note = dryRun ? undefined : carryOut(host, step);
    if (note !== undefined) process.stdout.write(`${note}\n`);
  }
  return !dryRun;
}

function unitText(): string {
  return unitFor(textOf('contrib/systemd/lb4.service'), placeOf(PACKAGE, process.execPath));
}

function assets(program: Command): Asset[] {
  const page = '/usr/share/man/man8/lb4.8';
  const completion = (shell: string, path: string): Asset => ({ path, text: completionScript(program, shell) });
  return [
    { path: '/etc/lb4/lb4.toml', text: textOf('lb4.toml'), once: true },
    { path: '/etc/default/lb4', text: textOf('contrib/debian/default'), once: true },
    { path: '/usr/local/share/man/man8/lb4.8', text: textOf('docs/lb4.8'), unless: [page, `${page}.gz`] },
    completion('bash', '/usr/local/share/bash-completion/completions/lb4'),
    completion('zsh', '/usr/local/share/zsh/site-functions/_lb4'),
    completion('fish', '/usr/local/share/fish/vendor_completions.d/lb4.fish'),
  ];
}

function textOf(name: string): string {
  return readFileSync(ownFile(name), 'utf8');
}
