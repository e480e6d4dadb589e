/** `lb4 trace CLIENT:PORT FRONTEND`: where such a connection would go, and why. Nothing is sent. */
import type { Command } from 'commander';
import type { Trace, TracedServer } from '../control/orders.ts';
import { columns } from './columns.ts';
import { type Asked, ask, askingCommand, show } from './control-client.ts';
import { withExamples } from './manual.ts';

/** Servers that are listed of each kind; JSON has all. */
const MOST = 20;

/** The command, for the program to add. */
export function traceCommand(): Command {
  const command = askingCommand('trace', 'say where a connection would go, and why, without sending anything')
    .argument('<client>', 'its address and port: 192.0.2.7:4711, [2001:db8::7]:4711')
    .argument('<frontend>', 'to which frontend, as the file names it')
    .action(async (client: string, frontend: string, options: Asked) => {
      const { traces } = await ask<{ traces: Trace[] }>(options, 'GET', '/v1/trace', { client, frontend });
      show(traces, options, (all) => all.map(traceText).join('\n'));
    });
  return withExamples(command, {
    'lb4 trace 192.0.2.7:4711 web': 'which server, what decides, who may be chosen and who may not',
    'lb4 trace 192.0.2.7:4711 web --json': 'for programs, with all servers',
  });
}

const OUTCOMES: Readonly<Record<Trace['outcome'], (trace: Trace) => string>> = {
  flow: ({ server, address }) => (server === null ? 'it is there already, without a server' : `${server}, ${address}`),
  goes: ({ server, address }) => `${server}, ${address}`,
  open: ({ among }) => `one of ${among.length}: ${listed(among)}`,
  waits: () => 'waits',
  refused: () => 'refused',
};

export function traceText(trace: Trace): string {
  const { client, frontend, to, protocol, mode, servers, affinity, reasons } = trace;
  const head = `${client} to ${frontend}, ${to} ${protocol} (${mode}): ${OUTCOMES[trace.outcome](trace)}\n`;
  const why = `why:\n${reasons.map((reason) => `  ${reason}\n`).join('')}`;
  const stays = affinity === null ? '' : `affinity: ${affinity.server}, for ${affinity.seconds} s yet\n`;
  return (
    head +
    why +
    stays +
    serversText(
      'may be chosen',
      servers.filter(({ eligible }) => eligible),
    ) +
    serversText(
      'may not',
      servers.filter(({ eligible }) => !eligible),
    )
  );
}

function serversText(title: string, servers: readonly TracedServer[]): string {
  if (servers.length === 0) return '';
  const rows = servers.slice(0, MOST).map(({ server, address, state, weight, load, maxconn, reasons }) => {
    const limit = maxconn === 0 ? '' : ` of ${maxconn}`;
    return ['', server, address, state, `weight ${weight}`, `${load}${limit} connections`, reasons.join('; ')];
  });
  const more = servers.length > MOST ? `  and ${servers.length - MOST} more: --json has all\n` : '';
  return `${title}:\n${columns(rows)}${more}`;
}

function listed(names: readonly string[]): string {
  return names.length > MOST ? `${names.slice(0, MOST).join(', ')} …` : names.join(', ');
}
