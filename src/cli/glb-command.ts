/** `lb4 glb build-config SRC DST` as it is typed. */
import { Command } from 'commander';
import { withExamples } from './manual.ts';

/** The command, for the program to add. */
export function glbCommand(): Command {
  const build = new Command('build-config')
    .description("write the table that GLB's directors load, the same bytes as glb-director-cli does")
    .argument('<source>', "GLB's forwarding table in JSON")
    .argument('<destination>', 'the file to write; it is replaced in one step')
    .action(async (source: string, destination: string) => {
      const { buildTable } = await import('./glb.ts');
      buildTable(source, destination);
    });
  const command = new Command('glb').description("read and write GLB's own files").addCommand(
    withExamples(build, {
      'lb4 glb build-config /etc/glb/forwarding_table.json /etc/glb/forwarding_table.bin': 'in place of glb-director-cli',
    }),
  );
  return withExamples(command, { 'lb4 glb build-config forwarding_table.json forwarding_table.bin': 'the table of a director' });
}
