/** `lb4 why BACKEND/SERVER`: why a server is as it is, and what would change that. */
import type { Command } from 'commander';
import type { Explanation } from '../control/orders.ts';
import { columns, duration } from './columns.ts';
import { type Asked, ask, askingCommand, show } from './control-client.ts';
import { withExamples } from './manual.ts';

/** The command, for the program to add. */
export function whyCommand(): Command {
  const command = askingCommand('why', 'say why a server is as it is, and what would change that')
    .argument('<server>', 'BACKEND/SERVER, as the file names them')
    .action(async (server: string, options: Asked) => {
      const { servers } = await ask<{ servers: Explanation[] }>(options, 'GET', '/v1/server', { server });
      show(servers, options, (all) => all.map((one) => whyText(one, Date.now() / 1000)).join('\n'));
    });
  return withExamples(command, { 'lb4 why web/a': 'its last checks, what was set, what would bring it back' });
}

/** @param now seconds since 1970 */
export function whyText(one: Explanation, now: number): string {
  const since = one.since === null ? '' : ` (its health for ${duration(Math.max(0, now - one.since))})`;
  const head = `${one.server}, ${one.address} ${one.protocol}: ${one.state}${since}, weight ${one.weight}, ${one.load} connections\n`;
  const list = (title: string, lines: readonly string[]) =>
    lines.length === 0 ? '' : `${title}:\n${lines.map((line) => `  ${line}\n`).join('')}`;
  const checks = one.checks.map(({ at, outcome, reason }) => [
    '',
    new Date(at * 1000).toISOString(),
    outcome === 'unknown' ? 'not made' : outcome,
    reason,
  ]);
  return `${head}${list('why', one.reasons)}${list('what would change it', one.remedies)}${checks.length === 0 ? '' : `last checks:\n${columns(checks)}`}`;
}
