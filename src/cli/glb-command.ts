/** `lb4 glb build-config SRC DST`, `lb4 glb import TABLE [DIRECTOR]` as they are typed. */
import { Command } from 'commander';
import { withExamples } from './manual.ts';

/** The command, for the program to add. */
export function glbCommand(): Command {
  const command = new Command('glb')
    .description("read and write the files of GLB, GitHub's load balancer")
    .addCommand(
      withExamples(buildCommand(), {
        'lb4 glb build-config /etc/glb/forwarding_table.json /etc/glb/forwarding_table.bin': 'in place of glb-director-cli',
      }),
    )
    .addCommand(
      withExamples(readCommand(), {
        'lb4 glb import /etc/glb/forwarding_table.src.json /etc/glb/director.conf >lb4.toml': 'then: lb4 check --dsr lb4.toml',
      }),
    );
  return withExamples(command, {
    'lb4 glb build-config forwarding_table.json forwarding_table.bin': 'the table of a director',
    'lb4 glb import forwarding_table.src.json >lb4.toml': "GLB's services as a file for lb4",
  });
}

function buildCommand(): Command {
  return new Command('build-config')
    .description("write the table that GLB's directors load, the same bytes as glb-director-cli does")
    .argument('<source>', "GLB's forwarding table in JSON")
    .argument('<destination>', 'the file to write; it is replaced in one step')
    .action(async (source: string, destination: string) => {
      const { buildTable } = await import('./glb.ts');
      buildTable(source, destination);
    });
}

function readCommand(): Command {
  return new Command('import')
    .description("print GLB's services as a file for lb4, and name what cannot be carried over")
    .argument('<table>', "GLB's forwarding table in JSON")
    .argument('[director]', "its director's configuration: hash fields, and the address that packets leave from")
    .action(async (table: string, director: string | undefined) => {
      const { importTable } = await import('./glb.ts');
      importTable(table, director);
    });
}
