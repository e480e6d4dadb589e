/** The first thing that root's lb4 does where it is to be the balancer: it begins anew without what it will not need (io/confinement.ts). */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { prepare } from '../io/before-confinement.ts';
import { privileges } from '../io/capabilities.ts';
import { confine, isConfined } from '../io/confinement.ts';
import { iptablesCommand, ofIpv6, readerEnvironment } from '../rules/program.ts';
import { type BalancerArguments, balancerArguments } from './balancer-arguments.ts';
import { DEFAULT_FILES } from './default-files.ts';

/** After so long a tool hangs. */
const MOST_MS = 5000;

/** @param args as they were typed */
export async function confineBalancer(args: readonly string[]): Promise<void> {
  if (isConfined(privileges())) return;
  const read = balancerArguments(args);
  // Whoever has mistyped an option has nothing changed.
  if (read.isKnown) {
    await prepare({ isPacketMode: read.isPacketMode, mayBeFast: mentionsFastPath(read) });
    if (read.hasRules) loadLegacyTables();
  }
  confine(read.descriptor === undefined ? [] : [read.descriptor]);
}

/** It is read in earnest later, by what takes its time to load. */
function mentionsFastPath({ config }: BalancerArguments): boolean {
  const file = config ?? DEFAULT_FILES.find((name) => existsSync(name)) ?? '';
  try {
    // Not what can be read but once.
    return statSync(file).isFile() && readFileSync(file, 'utf8').includes('fast_path');
  } catch {
    return false;
  }
}

function loadLegacyTables(): void {
  const iptables = iptablesCommand();
  const tools = { ip_tables: iptables, ip6_tables: ofIpv6(iptables) };
  for (const [module, tool] of Object.entries(tools)) {
    try {
      // What iptables-legacy looks for, and loads by modprobe(8) where it is not there: that would take CAP_SYS_MODULE.
      if (!existsSync(`/proc/net/${module}_names`) && isLegacy(tool)) run('modprobe', module);
    } catch {
      // Then the rules say so.
    }
  }
}

function isLegacy(tool: string): boolean {
  return !run(tool, '--version').includes('nf_tables');
}

function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', timeout: MOST_MS, env: readerEnvironment(), stdio: ['ignore', 'pipe', 'ignore'] });
}
