/** The table [connection_log]: a line for each connection that has ended. */
import { z } from 'zod';
import { readAddress } from '../address.ts';
import { CONNECTION_LOGS, LOG_FORMATS } from '../model.ts';
import { ADDRESS, checked, flag, key, lb4, oneOf, whole } from './key.ts';

/** PATH_MAX with its NUL is 4096, sun_path's 108. */
const MOST_PATH = 4000;
const MOST_SOCKET_PATH = 107;

function pathProblem(text: string, most = MOST_PATH): string | undefined {
  return /^\/[^\0]*[^/\0]$/.test(text) && Buffer.byteLength(text) <= most ? undefined : 'is no absolute path';
}

function syslogProblem(text: string): string | undefined {
  if (text.startsWith('/')) return pathProblem(text, MOST_SOCKET_PATH);
  const address = readAddress(text);
  return 'problem' in address ? address.problem : undefined;
}

export const connectionLog = z.object({
  to: key(z.enum(CONNECTION_LOGS), {
    allowed: oneOf(CONNECTION_LOGS),
    description:
      "Where lines go. `file`: to the end of `file`. `journal`: to this host's journal, with a field for each value. `syslog`: to `syslog`.",
    ...lb4,
  }),
  file: key(checked(pathProblem).optional(), {
    allowed: 'an absolute path, "/var/log/lb4/connections.log"',
    description: 'With `to = "file"`. Made with mode 0600 where it is not there; opened anew when it was moved away, and at SIGHUP.',
    otherwise: 'required with `to = "file"`',
    ...lb4,
  }),
  syslog: key(checked(syslogProblem).default('/dev/log'), {
    allowed: `the path of a unix socket, "/dev/log", or ${ADDRESS}`,
    description: 'With `to = "syslog"`: this host\'s (RFC 3164), or that of another by UDP (RFC 5424).',
    ...lb4,
  }),
  format: key(z.enum(LOG_FORMATS).default('text'), {
    allowed: oneOf(LOG_FORMATS),
    description: 'Of lines in a file, or for syslog: `text` has `key=value`, `json` an object. The journal does not read it.',
    ...lb4,
  }),
  sample: key(z.number().gt(0).max(1).default(1), {
    allowed: 'a share, above 0 and at most 1',
    description: 'Of all connections so many have a line, drawn by lot: 0.01 is one in a hundred.',
    ...lb4,
  }),
  rate: whole(1, 20_000, 1000, {
    description:
      'Lines a second at most; each worker has its part of them. Connections beyond are counted, and how many they were is told once a minute.',
    ...lb4,
  }),
  attempts: flag({
    description:
      'Also those that were never established: refused, unanswered, or without an answer to a datagram. Whoever floods writes a line each, up to `rate`.',
    ...lb4,
  }),
});
