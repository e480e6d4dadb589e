/** `lb4 status`: what runs here. */
import type { Command } from 'commander';
import type { Status } from '../control/listing.ts';
import { counted } from '../doctor/finding.ts';
import { columns, duration } from './columns.ts';
import { type Asked, ask, askingCommand, show } from './control-client.ts';
import { withExamples } from './manual.ts';

/** The command, for the program to add. */
export function statusCommand(): Command {
  const command = askingCommand('status', 'say what the lb4 that runs here is, and whether all is well with it').action(
    async (options: Asked) => {
      show(await ask<Status>(options, 'GET', '/v1/status'), options, statusText);
    },
  );
  return withExamples(command, { 'lb4 status': 'one line for each thing to know', 'lb4 status --json': 'for programs' });
}

export function statusText(status: Status): string {
  const { version, pid, mode, file, uptime, statistics, stopping, servers, connections, set, reload, host } = status;
  const states = Object.entries(servers).filter(([, count]) => count > 0);
  const head = `lb4 ${version}, ${mode}, pid ${pid}, up ${duration(uptime)}${stopping ? ', stopping' : ''}\n`;
  const rows = [
    ['file', file],
    ['reloads', `${reload.succeeded} taken, ${reload.failed} not`],
    ...(reload.last_error === null ? [] : [['', `the last one was not: ${reload.last_error}`]]),
    ['statistics', statistics === null ? 'none' : `http://${statistics}/stats`],
    ['serves', `${counted(status.frontends, 'frontend')}, ${counted(status.backends, 'backend')}`],
    ['servers', states.map(([state, count]) => `${count} ${state}`).join(', ') || 'none'],
    ['connections', `${connections.current} open, ${connections.total} in all`],
    ...(set === 0 ? [] : [['set', `${counted(set, 'server')} by control: see lb4 list`]]),
    ...(status.discovery_failing === 0
      ? []
      : [['names', `${status.discovery_failing} of servers could not be looked up the last time: the log says which`]]),
    ...(status.syn_floods === 0
      ? []
      : [['flood', 'of SYNs: until it is over a new client is taken in with its second SYN, a second later']]),
    ...(host.length === 0 ? [['host', 'all is there']] : host.map((problem) => ['host', problem])),
  ];
  return head + columns(rows);
}
