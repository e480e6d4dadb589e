/** `lb4 rules` as it is typed. */
import { Command } from 'commander';
import { withExamples } from './manual.ts';
import { configOption } from './options.ts';
import type { RulesOptions } from './rules.ts';

/** The command, for the program to add. */
export function rulesCommand(): Command {
  const command = new Command('rules')
    .description('print the script that a configuration asks of the balancer or of a server, or run it here')
    .addOption(configOption())
    .option('-p, --passthrough', 'for passthrough (the default)')
    .option('-d, --dsr', 'for direct server return')
    .option('--inline', 'for lb4 between two interfaces')
    .option('--fan-out', 'by which the kernel alone spreads ports over processes of this host')
    .option('--for <host>', 'balancer, or the address of a server (with --dsr, or of a backend with nat = "destination")', 'balancer')
    .option(
      '--dialect <name>',
      'how that server rewrites addresses, nft or tc (iptables cannot), or unwraps packets, bpf or fou, else what works there; of a fan-out nft (else) or iptables',
    )
    .option('--apply', 'install the rules on this host')
    .option('--remove', 'remove them, also after a crash')
    .option('--status', 'tell which rules are there')
    .option('--dry-run', 'with --apply or --remove: say what would be done')
    .action(async (options: RulesOptions) => {
      const { rules } = await import('./rules.ts');
      process.exitCode = await rules(options);
    });
  return withExamples(command, {
    'lb4 rules --config=/etc/lb4.toml >lb4-rules.sh': "this host's script, for lb4 --no-rules",
    'lb4 rules --dsr --for 10.0.0.11 >server.sh': 'what that server needs',
    'lb4 rules --fan-out --apply': 'spread the ports of [fan_out], without a running lb4',
    'lb4 rules --remove': 'never to start again: all that a killed lb4 has left goes',
  });
}
