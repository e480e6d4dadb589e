/** docs/lb4.8, rendered from the commands (`npm run docs`; a unit test fails when the file differs). */
import type { Command } from 'commander';
import { EXIT } from '../errors.ts';
import { type Described, type DescribedOption, described } from './described.ts';
import { ENVIRONMENT, examplesOf, STATUS } from './manual.ts';

const SIGNALS: Readonly<Record<string, string>> = {
  'SIGTERM, SIGINT':
    'lb4 stops. In proxy mode it takes no new connection, and running ones may go on for grace_period; a second signal ends them.',
  SIGHUP: 'The file is read again. With a mistake in it everything stays as it is.',
  SIGQUIT: 'lb4 stops for a restart: in the packet modes connections wait for the next start.',
  SIGUSR2: 'The lb4 that is installed now is started, and takes over.',
};

const FILES: Readonly<Record<string, string>> = {
  'lb4.toml, config.toml': 'The configuration, in the directory where lb4 is started, if none is named.',
  '/etc/lb4/lb4.toml, /etc/default/lb4':
    'The configuration and the options of the service, as lb4 install and the Debian package put them there.',
  '/var/log/lb4': 'For the connection log of the service.',
  '/run/lb4':
    'In the packet modes the lock of the network namespace, and what the next lb4 needs to go on after a kill; in proxy mode the servers that were found.',
  '/run/lb4/control.sock': 'Where a running lb4 takes orders, unless [control] says otherwise.',
  '/sys/fs/bpf/lb4-*': 'With fast_path the programs and maps of the kernel, by network namespace, for the next lb4.',
};

/** The whole page, in the macros of man(7). */
export function renderManPage(program: Command): string {
  const root = described(program);
  const commands = commandsBelow(root);
  return [
    '.\\" Made from src/cli/ by `npm run docs`. Do not edit.',
    '.TH LB4 8 "" lb4 "System Administration"',
    '.SH NAME',
    'lb4 \\- layer\\-4 load balancer: TCP proxy, full NAT, direct server return',
    '.SH SYNOPSIS',
    ...[root, ...commands].flatMap((node) => ['.PP', synopsis(node)]),
    '.SH DESCRIPTION',
    text(root.meaning),
    'Without a command it runs, until a signal ends it.',
    '.SH OPTIONS',
    ...options(root),
    '.SH COMMANDS',
    "Options before a command are that command's, where it takes them.",
    ...commands.flatMap((node) => [`.SS "${text(node.path)}"`, text(sentence(node.meaning)), ...options(node)]),
    '.SH SIGNALS',
    ...terms(SIGNALS),
    '.SH FILES',
    ...terms(FILES),
    '.SH ENVIRONMENT',
    ...terms(ENVIRONMENT),
    '.SH EXIT STATUS',
    ...terms(Object.fromEntries(Object.entries(EXIT).map(([name, status]) => [status, STATUS[name as keyof typeof EXIT]]))),
    '.SH EXAMPLES',
    ...[root, ...commands].flatMap(({ command }) => examplesOf(command)).flatMap(({ command, meaning }) => term(text(command), meaning)),
    '.SH SEE ALSO',
    text(
      'The documents that come with lb4: README.md, docs/configuration.md, docs/operations.md, docs/control.md, docs/modes.md, docs/errors.md.',
    ),
    '',
  ].join('\n');
}

function commandsBelow({ commands }: Described): Described[] {
  return commands.filter(({ name }) => name !== 'help').flatMap((node) => (node.commands.length === 0 ? [node] : commandsBelow(node)));
}

function synopsis({ path, options: list, args }: Described): string {
  const given = list
    .filter(({ names }) => !names.includes('--help'))
    .map(({ names, takes }) => {
      const value = takes === undefined ? '' : ` \\fI${text(takes.toUpperCase())}\\fR`;
      return `[\\fB${text(names.at(-1) ?? '')}\\fR${value}]`;
    });
  const words = args.map(({ name, choices, isRequired }) => {
    const word = `\\fI${text(choices?.join('|') ?? name.toUpperCase())}\\fR`;
    return isRequired ? word : `[${word}]`;
  });
  return [`\\fB${text(path)}\\fR`, ...given, ...words].join('\n');
}

function options({ options: list, args }: Described): string[] {
  const words = args.flatMap(({ name, meaning }) => term(`\\fI${text(name.toUpperCase())}\\fR`, sentence(meaning)));
  const rest = list.flatMap(({ names, takes, meaning }: DescribedOption) => {
    const value = takes === undefined ? '' : ` \\fI${text(takes.toUpperCase())}\\fR`;
    return term(`${names.map((name) => `\\fB${text(name)}\\fR`).join(', ')}${value}`, sentence(meaning));
  });
  return [...words, ...rest];
}

function terms(list: Readonly<Record<string, string>>): string[] {
  return Object.entries(list).flatMap(([name, meaning]) => term(`\\fB${text(name)}\\fR`, sentence(meaning)));
}

/** @param name in roff */
function term(name: string, meaning: string): string[] {
  return ['.TP', name, text(meaning)];
}

function sentence(meaning: string): string {
  return `${meaning.charAt(0).toUpperCase()}${meaning.slice(1)}${meaning.endsWith('.') ? '' : '.'}`;
}

/** A backslash, a minus and a leading dot mean something to roff. */
function text(plain: string): string {
  const escaped = plain.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll("'", '\\(aq').replaceAll('"', '\\(dq');
  return escaped.startsWith('.') ? `\\&${escaped}` : escaped;
}
