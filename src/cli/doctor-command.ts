/** `lb4 doctor` as it is typed. */
import { Command } from 'commander';
import type { DoctorOptions } from './doctor.ts';
import { withExamples } from './manual.ts';
import { configOption } from './options.ts';

/** The command, for the program to add. */
export function doctorCommand(): Command {
  const command = new Command('doctor')
    .description('look at this host: what is ready for lb4, what is not, and the command that mends it')
    .addOption(configOption())
    .option('-p, --passthrough', 'for passthrough (the default, where no other mode runs here and the file can be for it)')
    .option('-d, --dsr', 'for direct server return')
    .option('--inline', 'for lb4 between two interfaces')
    .option('--proxy', 'for proxy mode')
    .option('--fan-out', 'for ports that the kernel spreads over processes of this host')
    .option(
      '--for <server>',
      'look at this server of direct server return, by its address, in place of this host: on it, or from here by its tunnel',
    )
    .option('--json', 'print the findings as JSON')
    .action(async (options: DoctorOptions) => {
      const { doctor } = await import('./doctor.ts');
      process.exitCode = await doctor(options);
    });
  return withExamples(command, {
    'lb4 doctor': 'for the lb4 that runs here, or the file in this directory',
    'lb4 doctor --dsr --for 192.0.2.11 --config=/etc/lb4.toml': 'what a server behind dsr = "gue" lacks',
    'lb4 doctor --passthrough --config=/etc/lb4.toml --json': 'for programs',
  });
}
