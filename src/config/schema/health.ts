/** The keys of a backend that say how its servers are checked. */
import { z } from 'zod';
import { HEALTH_CHECK, type HealthCheckType, LOOKS } from '../model.ts';
import { PAYLOAD, payloadProblem } from '../payload.ts';
import { hostProblem, pathProblem, readStatus } from './http.ts';
import { checked, convey, key, lb4, oneOf, seconds, whole } from './key.ts';
import type { ServiceProtocol } from './services.ts';

/** Seconds between two checks where the file does not say. */
export const CHECK_INTERVAL = 5;

/** How servers are checked where the file does not say, by what they are balanced by. Where that is pings as well as TCP, one check is enough. */
export const DEFAULT_CHECK = { tcp: 'tcp', udp: 'udp', icmp: 'tcp' } as const satisfies Record<ServiceProtocol, HealthCheckType>;

/** What `exec` needs, as messages say it. */
export const COMMAND = 'a program and its arguments, ["/usr/local/bin/check", "-q"]';

function statusProblem(value: string | number, context: z.RefinementCtx): void {
  if (readStatus(String(value)) === undefined) context.addIssue({ code: 'custom', message: 'is not a list of status codes' });
}

/** No program can be given a text with a NUL in it: it would end there. */
function argumentProblem(text: string): string | undefined {
  return text.includes('\0') ? 'has a NUL in it' : undefined;
}

/** A program, or an argument of one. */
export const argument = key(checked(argumentProblem), {
  allowed: 'strings without NUL',
  description: 'A program, or an argument of one.',
  ...lb4,
});

const listed = key(z.enum(LOOKS), { allowed: oneOf(LOOKS), description: 'One of them.', ...lb4 });

function kindsProblem(kinds: readonly string[], context: z.RefinementCtx): void {
  for (const [i, kind] of kinds.entries())
    if (kinds.indexOf(kind) < i) context.addIssue({ code: 'custom', path: [i], message: 'is there already' });
}

export const healthCheckKeys = {
  health_check: key(z.union([z.enum(HEALTH_CHECK), z.array(listed).min(1).superRefine(kindsProblem)]).optional(), {
    allowed: `${oneOf(HEALTH_CHECK)}, or a list, ["tcp", "http"]`,
    description:
      'How a server is checked. `tcp`: it completes a handshake. `http`: it answers a GET with a good status. `exec`: a command ' +
      'exits with 0. `udp`: a datagram is answered as expected or, where nothing is expected, is not refused (port unreachable). ' +
      '`gue`, with `dsr = "gue"`, and `ipip`, with `dsr = "ipip"`: a ping that goes to it by its tunnel is answered, so it unwraps packets. ' +
      '`none`: it is not, and counts as up. With a list, `["tcp", "http"]`, a server is well if it passes all of them; each is made at every check.',
    otherwise: '`tcp`; of what is balanced by UDP `udp`',
    ...lb4,
  }),
  health_check_port: key(z.int().min(1).max(65535).optional(), {
    allowed: 'a whole number, 1–65535',
    description: 'The port that is checked; an `exec` check has it in LB4_SERVER_PORT.',
    otherwise: "each server's own",
    ...lb4,
  }),
  health_check_interval: key(
    z
      .number()
      .min(0)
      .max(86400)
      .refine((s) => s === 0 || s >= 0.1, 'is too small')
      .default(CHECK_INTERVAL),
    {
      allowed: 'seconds, 0.1–86400, or 0',
      description: `Time between two checks of a server, measured from start to start. 0 means ${CHECK_INTERVAL}.`,
      ...convey,
    },
  ),
  health_check_jitter: key(z.number().min(0).max(0.5).default(0.1), {
    allowed: 'a share, 0–0.5',
    description: 'Intervals vary by this share either way, lest all servers be checked at one moment.',
    ...lb4,
  }),
  health_check_timeout: seconds(0.05, 300, 3, { description: 'A check that has not succeeded by then has failed.', ...lb4 }),
  health_check_rise: whole(1, 100, 2, {
    description: 'Successful checks in a row that bring a failed server back. The first check after the start decides at once.',
    ...lb4,
  }),
  health_check_fall: whole(1, 100, 2, {
    description: 'Failed checks in a row that take a server out. 2 forgives one lost check; 1 is what Convey does.',
    ...lb4,
  }),
  health_check_path: key(checked(pathProblem).default('/'), {
    allowed: 'a path, "/health"',
    description: 'What an `http` check asks for.',
    ...lb4,
  }),
  health_check_status: key(z.union([z.string(), z.number()]).superRefine(statusProblem).default('200-399'), {
    allowed: 'status codes and ranges, 200 or "200-299,401"',
    description: 'The answers that an `http` check accepts as good.',
    ...lb4,
  }),
  health_check_host: key(checked(hostProblem).optional(), {
    allowed: 'a host, "www.example.com" or "www.example.com:8080"',
    description: 'The Host header of an `http` check.',
    otherwise: "the server's `addr`",
    ...lb4,
  }),
  health_check_command: key(z.array(argument).min(1).optional(), {
    allowed: COMMAND,
    description:
      'What an `exec` check runs, without a shell. It finds the server in LB4_SERVER_ADDR and LB4_SERVER_PORT, and its names in ' +
      'LB4_BACKEND and LB4_SERVER.',
    otherwise: 'required with `health_check = "exec"`',
    ...lb4,
  }),
  health_check_send: key(checked(payloadProblem).default(''), {
    allowed: PAYLOAD,
    description: 'What a `udp` check sends: a datagram, three times at most until it is answered.',
    ...lb4,
  }),
  health_check_expect: key(checked(payloadProblem).optional(), {
    allowed: PAYLOAD,
    description: 'What must be somewhere in the answer to a `udp` check.',
    otherwise:
      'any answer passes, and so does silence, at the end of `health_check_timeout`; "port unreachable" fails, and a neighbour without ARP. After that three silent ' +
      'checks are wanted, and those of one host whose ports are refused take turns, one in 1.1 to 3.3 s: a host says so once a second',
    ...lb4,
  }),
};
