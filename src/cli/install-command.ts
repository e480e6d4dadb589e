/** `lb4 install`, `lb4 uninstall` as they are typed. */
import { Command } from 'commander';
import { rootOf } from './completion.ts';
import type { InstallOptions } from './install.ts';
import { withExamples } from './manual.ts';

/** The command, for the program to add. */
export function installCommand(): Command {
  const command = new Command('install')
    .description('make lb4 a systemd service of this host, which runs as a user of its own; starts nothing')
    .option('--dry-run', 'say what would be done')
    .action(async (options: InstallOptions) => {
      const { install } = await import('./install.ts');
      install(options, rootOf(command));
    });
  return withExamples(command, {
    'lb4 install --dry-run': 'what it would do',
    'lb4 install': 'unit, user, /etc/lb4/lb4.toml where there is none, manual page, completion',
  });
}

/** The command, for the program to add. */
export function uninstallCommand(): Command {
  const command = new Command('uninstall')
    .description('stop the service and take away what install has made; a configuration that was changed stays')
    .option('--dry-run', 'say what would be done')
    .action(async (options: InstallOptions) => {
      const { uninstall } = await import('./install.ts');
      uninstall(options);
    });
  return withExamples(command, { 'lb4 uninstall': 'before npm uninstall -g lb4' });
}
