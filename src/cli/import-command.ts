/** `lb4 import haproxy FILE`, `lb4 import ipvsadm FILE` as they are typed. */
import { Command } from 'commander';
import { UsageError } from '../errors.ts';
import { didYouMean } from '../suggest.ts';
import type { Foreign } from './import.ts';
import { withExamples } from './manual.ts';

/** The command, for the program to add. */
export function importCommand(): Command {
  const command = new Command('import')
    .description("turn another balancer's configuration into one for lb4, and name what cannot be carried over")
    .addCommand(
      withExamples(importerCommand('haproxy', 'print what HAProxy balances in mode tcp as a file for lb4'), {
        'lb4 import haproxy /etc/haproxy/haproxy.cfg >lb4.toml': 'what is lost stands in the file as comments, and on standard error',
      }),
    )
    .addCommand(
      withExamples(importerCommand('ipvsadm', 'print what `ipvsadm -Sn` lists as a file for lb4'), {
        'ipvsadm -Sn | lb4 import ipvsadm - >lb4.toml': 'services and servers of the kernel',
      }),
    );
  // What commander would say names no command of another family.
  command.on('command:*', ([word = '']: string[]) => {
    const known = command.commands.map((one) => one.name());
    const hint =
      word === 'glb' ? "; GLB's files: lb4 glb import TABLE [DIRECTOR]" : didYouMean(word, known) || `; there are: ${known.join(', ')}`;
    throw new UsageError(`there is no command "import ${word}"${hint}; see lb4 import --help`);
  });
  return withExamples(command, {
    'lb4 import haproxy haproxy.cfg >lb4.toml': 'then: lb4 check',
    'ipvsadm -Sn | lb4 import ipvsadm - >lb4.toml': 'then the check for the mode that its first line names, lb4 check --dsr say',
  });
}

function importerCommand(name: Foreign, description: string): Command {
  return new Command(name)
    .description(description)
    .argument('<file>', 'what to read; - is standard input')
    .action(async (file: string) => {
      const { importFile } = await import('./import.ts');
      importFile(name, file);
    });
}
