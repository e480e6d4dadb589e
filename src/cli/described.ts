/** Commands and options as plain data, for what is made of them: completions, the manual page. */
import type { Command } from 'commander';

export interface DescribedOption {
  /** `-p`, `--passthrough`; the short one first. */
  readonly names: readonly string[];
  /** What its value is called, `file`; undefined: it has none. */
  readonly takes: string | undefined;
  readonly meaning: string;
}

export interface Described {
  readonly name: string;
  /** `lb4 import haproxy` */
  readonly path: string;
  readonly meaning: string;
  readonly options: readonly DescribedOption[];
  readonly commands: readonly Described[];
  /** In order. */
  readonly args: readonly DescribedArgument[];
  readonly command: Command;
}

export interface DescribedArgument {
  readonly name: string;
  readonly meaning: string;
  readonly isRequired: boolean;
  readonly isFile: boolean;
  /** BACKEND/SERVER of a running lb4. */
  readonly isServer: boolean;
  readonly choices: readonly string[] | undefined;
}

/**
 * @param parent its path
 * @param others beside it, which `help` takes
 */
export function described(command: Command, parent = '', others: readonly Command[] = []): Described {
  const path = `${parent} ${command.name()}`.trim();
  const help = command.createHelp();
  return {
    name: command.name(),
    path,
    meaning: command.description(),
    options: help.visibleOptions(command).map(({ short, long, flags, description }) => {
      const names = [short, long].filter((name) => name !== undefined && name !== null);
      return { names, takes: /[<[]([\w-]+)/.exec(flags)?.[1], meaning: description };
    }),
    commands: help.visibleCommands(command).map((child, _, children) => described(child, path, children)),
    args: command.registeredArguments.map((argument) => ({
      name: argument.name(),
      meaning: argument.description,
      isRequired: argument.required,
      isFile: argument.name() === 'file',
      isServer: argument.name() === 'server',
      choices:
        argument.argChoices ?? (command.name() === 'help' ? others.filter((one) => one !== command).map((one) => one.name()) : undefined),
    })),
    command,
  };
}
