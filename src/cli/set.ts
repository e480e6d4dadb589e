/** `lb4 set server BACKEND/SERVER state drain`, `… weight 5`: until the next start, or until the file says otherwise. */
import { Argument, Command } from 'commander';
import type { ServerSet } from '../control/orders.ts';
import { UsageError } from '../errors.ts';
import { type Asked, ask, askingCommand, show } from './control-client.ts';
import { withExamples } from './manual.ts';

/** The command, for the program to add. */
export function setCommand(): Command {
  const server = askingCommand('server', 'set the state or the weight of a server, until the next start or until the file says otherwise')
    .argument('<server>', 'BACKEND/SERVER, as the file names them')
    .addArgument(new Argument('<key>', 'what is set').choices(['state', 'weight']))
    .argument('<value>', 'a state: ready, drain (no new connections) or down (as if it had failed); or a weight, 0 to 65535')
    .action(async (name: string, key: 'state' | 'weight', value: string, options: Asked) => {
      const order = key === 'state' ? { state: value } : { weight: weightIn(value) };
      show(await ask<ServerSet>(options, 'POST', '/v1/server', { server: name }, order), options, setText);
    });
  withExamples(server, {
    'lb4 set server web/a state drain': 'its connections go on, new ones go to others',
    'lb4 set server web/a state down': 'as if it had failed; `ready` takes both back',
    'lb4 set server web/a weight 5': "in place of the file's",
  });
  const command = new Command('set').description('set something of the lb4 that runs').addCommand(server);
  return withExamples(command, { 'lb4 set server web/a state drain': 'then: lb4 wait web/a drained' });
}

function weightIn(text: string): number {
  if (!/^\d+$/.test(text)) throw new UsageError(`weight: "${text}"; allowed: a whole number, 0–65535`);
  return Number(text);
}

function setText({ server, set }: ServerSet): string {
  if (set === null) return `${server} goes by the file\n`;
  const parts = [set.state, set.weight === undefined ? undefined : `weight ${set.weight}`];
  return `${server} is set: ${parts.filter((part) => part !== undefined).join(', ')}; a restart forgets it\n`;
}
