/** `lb4 wait BACKEND/SERVER drained`: ends when nobody is on a server any more. */
import { setTimeout } from 'node:timers/promises';
import { Argument, type Command } from 'commander';
import type { Mode } from '../config/modes.ts';
import type { Explanation, StatusAnswer } from '../control/orders.ts';
import { RefusedError, TimeoutError, UnknownNameError, UsageError } from '../errors.ts';
import { ask, controlCommand, type Reach } from './control-client.ts';
import { withExamples } from './manual.ts';

interface WaitOptions extends Reach {
  readonly timeout?: number | undefined;
}

const FAN_OUT: Mode = 'fan-out';
/** Between two looks. */
const EVERY_MS = 250;

/** The command, for the program to add. */
export function waitCommand(): Command {
  const command = controlCommand('wait', 'wait until a server has drained: no new connections come, and the last one has ended')
    .argument('<server>', 'BACKEND/SERVER, as the file names them')
    .addArgument(new Argument('<what>', 'what is waited for').choices(['drained']))
    .option('--timeout <seconds>', 'give up after so long, with exit status 124', secondsIn)
    .action(async (server: string, _what: string, options: WaitOptions) => {
      await drained(server, options);
      process.stdout.write(`${server} has drained\n`);
    });
  return withExamples(command, {
    'lb4 wait web/a drained --timeout 300': 'after lb4 set server web/a state drain, or when it has left the file',
  });
}

async function drained(server: string, options: WaitOptions): Promise<void> {
  const { mode } = await ask<StatusAnswer>(options, 'GET', '/v1/status');
  if (mode === FAN_OUT) throw new RefusedError(unseen(server));
  const end = performance.now() + 1000 * (options.timeout ?? Number.POSITIVE_INFINITY);
  for (let looks = 0; ; looks++) {
    const servers = await lookAt(server, options, looks > 0);
    if (servers === undefined) return;
    const taking = servers.find((one) => !isOut(one));
    if (taking !== undefined)
      throw new RefusedError(`${server} takes new connections, or will when it is up; first: lb4 set server ${server} state drain`);
    const left = servers.reduce((sum, { load }) => sum + load, 0);
    if (left === 0) return;
    if (performance.now() >= end) throw new TimeoutError(`${server} has not drained in ${options.timeout} s: connections left: ${left}`);
    await setTimeout(EVERY_MS);
  }
}

/** Its connections are the kernel's alone, so that lb4 counts none. */
function unseen(server: string): string {
  const port = server.slice(server.lastIndexOf('/') + 1);
  return `${server} cannot be waited for: lb4 --fan-out sees no connections, which the kernel has; those that are left: ss -Htn state established "sport = :${port}"`;
}

/** By somebody's word, the file's or an operator's: one that is down by its checks alone may be back the next second. */
export function isOut({ leaving, set, weight }: Pick<Explanation, 'leaving' | 'set' | 'weight'>): boolean {
  return leaving || set?.state === 'down' || weight === 0;
}

/** Undefined: it was there, and has left for good. */
async function lookAt(server: string, reach: Reach, wasThere: boolean): Promise<readonly Explanation[] | undefined> {
  try {
    return (await ask<{ servers: Explanation[] }>(reach, 'GET', '/v1/server', { server })).servers;
  } catch (error) {
    if (wasThere && error instanceof UnknownNameError) return undefined;
    throw error;
  }
}

function secondsIn(text: string): number {
  const seconds = Number(text);
  if (text.trim() === '' || !Number.isFinite(seconds) || seconds < 0)
    throw new UsageError(`--timeout=${text}; allowed: seconds, 0 or more`);
  return seconds;
}
