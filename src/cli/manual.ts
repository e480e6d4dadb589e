/** What people need to know of the command line beside its options: for --help. */
import type { Command } from 'commander';
import { EXIT } from '../errors.ts';

export interface Example {
  readonly command: string;
  readonly meaning: string;
}

/** Of every command. */
const EXAMPLES = new WeakMap<Command, readonly Example[]>();

/** Gives a command its examples, which its help ends with. */
export function withExamples(command: Command, examples: Readonly<Record<string, string>>): Command {
  const list = Object.entries(examples).map(([text, meaning]): Example => ({ command: text, meaning }));
  EXAMPLES.set(command, list);
  return command.addHelpText('after', `\nExamples:\n${table(list.map((one) => [one.command, one.meaning]))}`);
}

export function examplesOf(command: Command): readonly Example[] {
  return EXAMPLES.get(command) ?? [];
}

/** The variables that lb4 goes by; a unit test holds them together with the code. */
export const ENVIRONMENT: Readonly<Record<string, string>> = {
  LB4_LOG: 'how much is logged: trace, debug, info (the default), warn, error, fatal or silent',
  NO_COLOR: 'set: no colours in the log on a terminal, and in lb4 top',
  TERM: 'dumb: lb4 top prints one table and ends',
  LB4_CONTROL: 'the control socket of a running lb4, as --control',
  LB4_CONTROL_TOKEN: 'the token for a running lb4 that is asked by TCP',
  LB4_IPTABLES: 'the iptables to use, iptables-legacy say (default: iptables)',
  LB4_GATEWAY: 'on a server of nat = "destination", for its script: the address that it reaches the balancer by',
  LB4_DEVICES: 'on a DSR server, for its script: the interfaces that answers leave by, "eth0 eth1"',
  LB4_MTU:
    'on a server of dsr = "gue" or "ipip", for its script: what the way from the balancer takes, where that is less; noted until a reboot',
  JOURNAL_STREAM: 'by systemd: whether standard error is the journal, for which each line has a priority',
  NOTIFY_SOCKET: 'by systemd: who is told that lb4 is ready',
  WATCHDOG_USEC: 'by systemd: it is told that lb4 lives, while all its workers answer',
  XDG_RUNTIME_DIR: 'as another user than root: where two lb4 meet at a takeover, and where the control socket is',
  SUDO_UID: "by sudo: whose lb4.toml of the working directory is taken without a warning, beside root's",
  LB4_KEEPER: 'by lb4-service, which stands in front of lb4 in a systemd unit',
};

/** Why a process ends with each status (docs/errors.md). */
export const STATUS: Readonly<Record<keyof typeof EXIT, string>> = {
  ok: 'all is well',
  failure: 'something failed while it ran; of doctor: something fails here',
  usage: 'an option, argument or environment variable is wrong',
  absent: 'no lb4 runs that could be asked',
  unknown: 'the lb4 that runs has no server or frontend of that name',
  refused: 'the lb4 that runs does not carry out the order; of reload: the file was not taken',
  unavailable: 'the npm packages of io = "pcap" are missing',
  resources: 'a limit on files, threads or memory is too low',
  takeover: '--takeover: nobody could be taken over from',
  missing: 'a privilege, or something of the kernel, is missing',
  config: 'the configuration is missing, unreadable or wrong',
  timeout: 'what was waited for has not happened in time',
};

/** The end of `lb4 --help`. */
export function manual(): string {
  const statuses = Object.entries(EXIT).map(([name, status]) => [String(status), STATUS[name as keyof typeof EXIT]] as const);
  return `\nEnvironment:\n${table(Object.entries(ENVIRONMENT))}\n\nExit status:\n${table(statuses)}`;
}

function table(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([term]) => term.length)) + 2;
  return rows.map(([term, meaning]) => `  ${term.padEnd(width)}${meaning}`).join('\n');
}
