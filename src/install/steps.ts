/**
 * What `lb4 install` and `lb4 uninstall` do, as steps that can be told before they are done. What an installation has made it writes down first,
 * so that the host gets back as it was, also after one that was cut off.
 */
import { createHash } from 'node:crypto';
import { dirname } from 'node:path';
import { FailureError } from '../errors.ts';
import type { Host } from './host.ts';

export const UNIT = '/etc/systemd/system/lb4.service';
/** What was made, by {@link Made}. */
export const RECORD = '/var/lib/lb4/install.json';
/** Where a package of the distribution has its unit. */
const PACKAGED_UNITS = ['/usr/lib/systemd/system/lb4.service', '/lib/systemd/system/lb4.service'] as const;
const USER = 'lb4';
const USERADD = [
  '--system',
  '--user-group',
  '--no-create-home',
  '--home-dir',
  '/nonexistent',
  '--shell',
  '/usr/sbin/nologin',
  USER,
] as const;
/** RuntimeDirectory= of the unit, which systemd keeps. */
const RUNTIME = '/run/lb4';
/** LogsDirectory= of the unit. */
const LOGS = '/var/log/lb4';
const LOGGED = 'what lb4 has logged is in it';
const WAITING = 'an lb4 runs, or what a killed one has left waits for the next (lb4 rules --remove); it goes with a reboot';
const DROP_INS = `${UNIT}.d`;

/** A file that belongs to an installation. */
export interface Asset {
  readonly path: string;
  readonly text: string;
  /** The administrator's: written where there is none, and never again. */
  readonly once?: boolean | undefined;
  /** Others that do the same. */
  readonly unless?: readonly string[] | undefined;
}

export type Step =
  | { readonly act: 'run'; readonly program: string; readonly args: readonly string[]; readonly mayFail?: boolean }
  | { readonly act: 'make' | 'remove'; readonly path: string }
  /** `full`: what is said where it is not empty. */
  | { readonly act: 'remove directory'; readonly path: string; readonly full?: string }
  | { readonly act: 'write'; readonly path: string; readonly text: string }
  | { readonly act: 'leave'; readonly path: string; readonly why: string };

interface Made {
  readonly user: boolean;
  /** SHA-256 of what was written, by path. */
  readonly files: Readonly<Record<string, string>>;
  /** Parents first. */
  readonly directories: readonly string[];
}

const NOTHING: Made = { user: false, files: {}, directories: [] };

/** To a host that is {@link assertFitting}. Throws FailureError where another unit is in the way. */
export function installSteps(host: Host, unit: string, assets: readonly Asset[]): Step[] {
  const made = madeOn(host) ?? NOTHING;
  if (host.has(UNIT) && made.files[UNIT] === undefined)
    throw new FailureError(`${UNIT} is there, and not by lb4 install: move it away (what it says otherwise belongs in a drop-in)`);
  const files = [{ path: UNIT, text: unit }, ...assets].map((asset) => fileStep(host, made, asset));
  const written = files.filter((step) => step.act === 'write');
  // The record's first: what follows stands in it.
  const own = missingAbove(host, [RECORD]);
  const others = missingAbove(
    host,
    written.map(({ path }) => path),
  ).filter((path) => !own.includes(path));
  const directories = [...own, ...others];
  const needsUser = !host.hasUser(USER);
  const record: Made = {
    user: made.user || needsUser,
    files: { ...made.files, ...Object.fromEntries(written.map(({ path, text }) => [path, digestOf(text)])) },
    directories: [...made.directories, ...directories.filter((path) => !made.directories.includes(path))],
  };
  return [
    ...own.map(make),
    { act: 'write', path: RECORD, text: `${JSON.stringify(record, undefined, 2)}\n` },
    ...others.map(make),
    ...(needsUser ? [{ act: 'run', program: 'useradd', args: USERADD } as const] : []),
    ...files,
    systemctl('daemon-reload'),
  ];
}

/** Of the same. Throws FailureError where there is nothing that an installation has made. */
export function uninstallSteps(host: Host): Step[] {
  const made = madeOn(host);
  if (made === undefined) throw new FailureError(`lb4 install has made nothing on this host (there is no ${RECORD})`);
  return [
    ...(host.has(UNIT) ? [systemctl('disable', '--now', 'lb4.service')] : []),
    ...Object.entries(made.files).flatMap(([path, digest]) => removal(host, path, digest)),
    systemctl('daemon-reload'),
    { ...systemctl('reset-failed', 'lb4.service'), mayFail: true },
    ...(host.has(DROP_INS) ? [leave(DROP_INS, 'it is not by lb4 install')] : []),
    // What is in it by now the service has yet to take away.
    ...(host.has(RUNTIME) ? [{ act: 'remove directory', path: RUNTIME, full: WAITING } as const] : []),
    ...(host.has(LOGS) ? [{ act: 'remove directory', path: LOGS, full: LOGGED } as const] : []),
    ...(made.user && host.hasUser(USER) ? [{ act: 'run', program: 'userdel', args: [USER] } as const] : []),
    { act: 'remove', path: RECORD },
    ...made.directories.toReversed().map((path) => ({ act: 'remove directory', path }) as const),
  ];
}

/**
 * Does it. Returns what else there is to say: a directory that is not empty stays. Throws FailureError; then the next uninstall does what is
 * left.
 */
export function carryOut(host: Host, step: Step): string | undefined {
  if (step.act === 'remove directory' && !host.isEmpty(step.path)) return step.full && `${step.path} stays: ${step.full}`;
  try {
    if (step.act === 'run') host.run(step.program, step.args);
    else if (step.act === 'make') host.makeDirectory(step.path);
    else if (step.act === 'write') host.write(step.path, step.text);
    else if (step.act === 'remove') host.remove(step.path);
    else if (step.act === 'remove directory') host.removeDirectory(step.path);
  } catch (error) {
    if (step.act !== 'run' || !step.mayFail)
      throw error instanceof FailureError ? error : new FailureError(String(error), { cause: error });
  }
  return undefined;
}

/** In the imperative. */
export function stepText(step: Step): string {
  if (step.act === 'run') return `run ${[step.program, ...step.args].join(' ')}`;
  if (step.act === 'leave') return `leave ${step.path} as it is: ${step.why}`;
  if (step.act === 'remove directory') return `remove ${step.path} if it is empty`;
  return `${step.act} ${step.path}`;
}

/** Throws FailureError without systemd, and where a package has installed the unit. */
export function assertFitting(host: Host): void {
  if (!host.has('/run/systemd/system'))
    throw new FailureError('systemd does not run on this host: lb4 can be started by whatever does, as it is');
  const packaged = PACKAGED_UNITS.find((path) => host.has(path));
  if (packaged !== undefined)
    throw new FailureError(
      `${packaged} is a package's, which has done all this, and takes it away (apt-get remove lb4): one unit, one owner`,
    );
}

function madeOn(host: Host): Made | undefined {
  const text = host.text(RECORD);
  if (text === undefined) return undefined;
  try {
    return { ...NOTHING, ...(JSON.parse(text) as Partial<Made>) };
  } catch (error) {
    throw new FailureError(`${RECORD}: not what lb4 install has written: ${String(error)}`, { cause: error });
  }
}

/** The unit and what else nobody has changed is written anew, where it is another one by now; what is somebody else's stays. */
function fileStep(host: Host, made: Made, { path, text, once = false, unless = [] }: Asset): Step & { readonly act: 'write' | 'leave' } {
  const other = unless.find((one) => host.has(one));
  if (other !== undefined) return leave(path, `there is ${other}`);
  const present = host.text(path);
  if (present === text) return leave(path, 'it is what it should be');
  const isOurs = path === UNIT || (!once && present !== undefined && digestOf(present) === made.files[path]);
  return !host.has(path) || isOurs ? { act: 'write', path, text } : leave(path, 'there is one');
}

function removal(host: Host, path: string, digest: string): Step[] {
  if (!host.has(path)) return [];
  const isOurs = path === UNIT || digestOf(host.text(path) ?? '') === digest;
  return [isOurs ? { act: 'remove', path } : leave(path, 'it was changed')];
}

/** Directories that are not there, parents first. */
function missingAbove(host: Host, paths: readonly string[]): string[] {
  const missing = new Set<string>();
  for (const path of paths) for (let at = dirname(path); !host.has(at); at = dirname(at)) missing.add(at);
  return [...missing].toSorted();
}

function make(path: string) {
  return { act: 'make', path } as const;
}

function leave(path: string, why: string) {
  return { act: 'leave', path, why } as const;
}

function systemctl(...args: string[]) {
  return { act: 'run', program: 'systemctl', args } as const;
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
