/** `lb4 import haproxy FILE`, `lb4 import ipvsadm FILE`: another balancer's configuration as lb4's. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { unreadable } from '../config/load.ts';
import { formatLost, type Imported } from '../import/finish.ts';
import { importHaproxy } from '../import/haproxy.ts';
import { importIpvsadm } from '../import/ipvsadm.ts';
import { told } from './lines.ts';
import { withExamples } from './manual.ts';

type Importer = (text: string, name: string) => Imported;

const STDIN = 0;

/** The command, for the program to add. */
export function importCommand(): Command {
  const command = new Command('import')
    .description("turn another balancer's configuration into one for lb4, and name what cannot be carried over")
    .addCommand(
      withExamples(importerCommand('haproxy', 'print what HAProxy balances in mode tcp as a file for lb4', importHaproxy), {
        'lb4 import haproxy /etc/haproxy/haproxy.cfg >lb4.toml': 'what is lost stands in the file as comments, and on standard error',
      }),
    )
    .addCommand(
      withExamples(importerCommand('ipvsadm', 'print what `ipvsadm -Sn` lists as a file for lb4', importIpvsadm), {
        'ipvsadm -Sn | lb4 import ipvsadm - >lb4.toml': 'services and servers of the kernel',
      }),
    );
  return withExamples(command, {
    'lb4 import haproxy haproxy.cfg >lb4.toml': 'then: lb4 check',
    'ipvsadm -Sn | lb4 import ipvsadm - >lb4.toml': 'then the check for the mode that its first line names, lb4 check --dsr say',
  });
}

function importerCommand(name: string, description: string, importer: Importer): Command {
  return new Command(name)
    .description(description)
    .argument('<file>', 'what to read; - is standard input')
    .action((file: string) => {
      const { toml, lost } = importer(readText(file), file === '-' ? 'standard input' : file);
      process.stdout.write(toml);
      for (const one of lost) process.stderr.write(told(`${file}:${formatLost(one)}`));
    });
}

function readText(file: string): string {
  try {
    return readFileSync(file === '-' ? STDIN : file, 'utf8');
  } catch (error) {
    throw unreadable(file, error);
  }
}
