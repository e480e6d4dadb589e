/** The table [control]: where a running lb4 takes orders. */
import { z } from 'zod';
import { listenProblem, readAddress } from '../address.ts';
import { ADDRESS, checked, key, lb4 } from './key.ts';

/** sun_path has 108 bytes with its NUL, and beside a socket one of another name is made first. */
const MOST_PATH = 90;
const TOKEN = 'at least 16 printable characters without spaces';
const PATH = `an absolute path, at most ${MOST_PATH} bytes, "/run/lb4-web/control.sock"`;

function pathProblem(text: string): string | undefined {
  const isPath = /^\/[^\0]+[^/\0]$/.test(text) && Buffer.byteLength(text) <= MOST_PATH;
  return isPath ? undefined : 'is no path that a socket can have';
}

function modeProblem(text: string): string | undefined {
  return /^0?[67][0-7]0$/.test(text) ? undefined : 'is no mode that keeps others out';
}

function addressProblem(text: string): string | undefined {
  const address = readAddress(text);
  return 'problem' in address ? address.problem : listenProblem(address);
}

export const control = z.object({
  enabled: key(z.boolean().default(true), {
    allowed: 'true or false',
    description: '`false`: a running lb4 takes no orders but signals.',
    ...lb4,
  }),
  path: key(checked(pathProblem).optional(), {
    allowed: PATH,
    description:
      'The unix socket that `lb4 status`, `lb4 set` and others speak to; they take another than the default by `--control` or LB4_CONTROL. Its ' +
      'directory must be of root, or of the user that lb4 runs as, and not writable by others; a missing one is made. Two lb4 on one host need two.',
    otherwise: '`/run/lb4/control.sock`; of another user than root `$XDG_RUNTIME_DIR/lb4/control.sock`',
    ...lb4,
  }),
  group: key(checked((text) => (/^[\w][\w.-]{0,31}\$?$/.test(text) ? undefined : 'is no group')).optional(), {
    allowed: 'the name of a group in /etc/group, or its number, "adm"',
    description:
      'Whose members may give orders as well, all of them. It needs a `path` in a directory that they may enter: /run/lb4 is for root alone.',
    otherwise: "lb4's own",
    ...lb4,
  }),
  mode: key(checked(modeProblem).optional(), {
    allowed: 'as of chmod, without rights for others, "0600" or "0660"',
    description: 'Who may write to the socket, and so give orders.',
    otherwise: '`0600`, with `group` `0660`',
    ...lb4,
  }),
  address: key(checked(addressProblem).optional(), {
    allowed: ADDRESS,
    description: 'Takes orders by TCP, too, from whoever has the token, in the clear: for this host, or a network that nobody listens to.',
    otherwise: 'no orders by TCP',
    ...lb4,
  }),
  dashboard: key(z.enum(['read', 'write']).default('read'), {
    allowed: '"read" or "write"',
    description:
      '`"write"`: state and weight of servers may be set from the [dashboard](operations.md#the-dashboard), too, by whoever has the token. It goes in the ' +
      'clear: for the statistics on 127.0.0.1, or a network that nobody listens to.',
    ...lb4,
  }),
  token: key(checked((text) => (/^[!-~]{16,512}$/.test(text) ? undefined : 'is no token')).optional(), {
    allowed: TOKEN,
    description:
      'What must be said at `address`, and asked for by the dashboard: `Authorization: Bearer TOKEN`. Whoever can read the file knows it.',
    otherwise: '`token_file`',
    ...lb4,
  }),
  token_file: key(checked(pathProblem).optional(), {
    allowed: 'an absolute path, "/etc/lb4/token"',
    description: 'A file with the token; read at the start and at each reload. Where both are, `token` counts.',
    otherwise: '`token`',
    ...lb4,
  }),
});
