/** The unit of an lb4 that is somewhere else than the Debian package puts it. */
import { realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { FailureError } from '../errors.ts';

/** What contrib/systemd/lb4.service has. */
const PACKAGED = '/usr/bin/lb4-service';
/** What a unit finds programs by: systemd.exec(5), DefaultEnvironment. */
const PATH = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'] as const;
/** ProtectHome= and PrivateTmp= of the unit. */
const HIDDEN = /^\/(?:home|root|run\/user|tmp|var\/tmp)\//;
/** What needs no quotes in a unit, systemd.syntax(7). */
const PLAIN = /^[\w./@+-]+$/;

const ADVICE = 'install it where all may read it: npm install -g, as root, by a Node.js under /usr or /opt';

const NOTE = '# Made by `lb4 install`, which writes it anew: what this host has otherwise belongs in a drop-in (systemctl edit lb4).\n';

export interface Place {
  /** The directory that lb4 is in. */
  readonly directory: string;
  /** The Node.js that runs it. */
  readonly node: string;
  /** The one that a unit finds by itself; undefined: none. */
  readonly found: string | undefined;
}

/** Where this lb4 is. Throws FailureError where a unit cannot run it: the unit sees no home, and is not root. */
export function placeOf(directory: string, node: string): Place {
  for (const path of [directory, node]) assertUsable(path);
  if ((statSync(join(directory, 'package.json')).mode & 0o004) === 0)
    throw new FailureError(`the user lb4 may not read ${directory}: ${ADVICE}, or chmod -R o+rX ${directory}`);
  const found = PATH.map((one) => join(one, 'node')).find((path) => statSync(path, { throwIfNoEntry: false })?.isFile());
  return { directory, node, found: found && realpathSync(found) };
}

/** @param packaged contrib/systemd/lb4.service */
export function unitFor(packaged: string, { directory, node, found }: Place): string {
  const unit = packaged.replace(`ExecStart=${PACKAGED} `, `ExecStart=${join(directory, 'bin/lb4-service')} `);
  // bin/lb4 takes the first node of its PATH.
  const path = found === node ? '' : `Environment=PATH=${[dirname(node), ...PATH].join(':')}\n`;
  return NOTE + unit.replace('ExecStart=', `${path}ExecStart=`);
}

function assertUsable(path: string): void {
  if (HIDDEN.test(path)) throw new FailureError(`the unit does not see ${path} (ProtectHome, PrivateTmp): ${ADVICE}`);
  if (!PLAIN.test(path))
    throw new FailureError(`${path}: a unit takes letters, digits and ./@+_- in the path of lb4 and of Node.js: ${ADVICE}`);
  for (let at = path; at !== '/'; at = dirname(at))
    if ((statSync(at).mode & 0o001) === 0) throw new FailureError(`the user lb4 may not enter ${at}: ${ADVICE}, or chmod o+x ${at}`);
}
