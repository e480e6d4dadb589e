/** `lb4 flows` and `lb4 kill flows`: who is connected to what, and the end of it. */
import { Command } from 'commander';
import type { FlowFilter, FlowList, Killed } from '../control/orders.ts';
import { UsageError } from '../errors.ts';
import { columns, short } from './columns.ts';
import { type Asked, ask, askingCommand, show } from './control-client.ts';
import { warnOnStderr } from './lines.ts';
import { withExamples } from './manual.ts';

interface FlowsOptions extends Asked, FlowFilter {
  readonly limit?: string | undefined;
}

/** The command, for the program to add. */
export function flowsCommand(): Command {
  const command = withFilters(askingCommand('flows', 'list connections, and flows of datagrams'))
    .option('--limit <number>', 'so many at most (default: 1000)')
    .action(async ({ server, client, frontend, limit, ...options }: FlowsOptions) => {
      const answer = await ask<FlowList>(options, 'GET', '/v1/flows', { server, client, frontend, limit });
      show(answer, options, flowsText);
      if (answer.more) warnOnStderr('there are more: --limit=NUMBER shows more of them');
    });
  return withExamples(command, {
    'lb4 flows --server web/a': 'who is on that server',
    'lb4 flows --client 192.0.2.0/24 --limit 20 --json': 'of a network, for programs',
  });
}

/** The command, for the program to add. */
export function killCommand(): Command {
  const flows = withFilters(askingCommand('flows', 'end connections, and flows of datagrams')).action(
    async ({ server, client, frontend, ...options }: FlowsOptions) => {
      const filter = { server, client, frontend };
      if (Object.values(filter).every((one) => one === undefined))
        throw new UsageError('kill flows: needed: --server, --client or --frontend');
      show(await ask<Killed>(options, 'DELETE', '/v1/flows', filter), options, killedText);
    },
  );
  withExamples(flows, {
    'lb4 kill flows --server web/a': 'of TCP both sides get a reset, where the mode can',
    'lb4 kill flows --client 192.0.2.7': 'of one client',
  });
  const command = new Command('kill').description('end what the lb4 that runs carries').addCommand(flows);
  return withExamples(command, { 'lb4 kill flows --server web/a': 'what lb4 flows --server web/a lists' });
}

/** Which connections are meant. */
export function withFilters(command: Command): Command {
  return command
    .option('--server <server>', 'of that server, BACKEND/SERVER')
    .option('--client <address>', 'of that client: an address, with a port or not, or a network')
    .option('--frontend <name>', 'of that frontend');
}

const HEAD = ['Prot', 'Client', 'Frontend', 'Server', 'By', 'Address', 'State', 'Idle', 'InBytes', 'OutBytes'];

export function flowsText({ flows }: FlowList): string {
  const rows = flows.map((flow) => [
    flow.protocol,
    flow.client,
    flow.frontend ?? '-',
    flow.server ?? '-',
    flow.via ?? '-',
    flow.address ?? '-',
    flow.state,
    `${flow.idle} s`,
    short(flow.bytes_tx),
    short(flow.bytes_rx),
  ]);
  return columns([HEAD, ...rows], new Set([7, 8, 9]));
}

function killedText({ killed, reset }: Killed): string {
  return killed === 0 ? 'none was there\n' : `ended: ${killed}; told both sides by a reset: ${reset}\n`;
}
