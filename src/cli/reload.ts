/** `lb4 reload` and `lb4 config`: the file of the lb4 that runs, taken again, and what is in effect. */
import type { Command } from 'commander';
import type { Reloaded } from '../control/orders.ts';
import { RefusedError } from '../errors.ts';
import { type Asked, ask, askingCommand, show } from './control-client.ts';
import { withExamples } from './manual.ts';

/** The command, for the program to add. */
export function reloadCommand(): Command {
  const command = askingCommand(
    'reload',
    'have the lb4 that runs take its file again; tells what has changed, or what is wrong with the file',
  ).action(async (options: Asked) => {
    const answer = await ask<Reloaded>(options, 'POST', '/v1/reload');
    if (answer.taken || options.json === true) show(answer, options, reloadText);
    if (!answer.taken) throw new RefusedError([...answer.errors, 'the file was not taken: all stays as it is'].join('\n'));
  });
  return withExamples(command, { 'lb4 reload': 'waits until it has; lb4 also does so by itself when the file changes' });
}

/** The command, for the program to add. */
export function configCommand(): Command {
  const command = askingCommand('config', 'print what is in effect, what the file leaves to lb4 included, as a file').action(
    async (options: Asked) => {
      show(await ask<{ toml: string }>(options, 'GET', '/v1/config'), options, ({ toml }) => toml);
    },
  );
  return withExamples(command, { 'lb4 config >now.toml': 'a file that lb4 takes: lb4 check now.toml' });
}

function reloadText({ changes, restart, forgotten }: Reloaded): string {
  const lines = [
    changes.length === 0 ? 'taken; nothing has changed' : 'taken',
    ...changes,
    ...restart.map((key) => `${key} changes only with a restart`),
    ...forgotten.map((one) => `set by control, and forgotten: ${one}`),
  ];
  return `${lines.join('\n')}\n`;
}
