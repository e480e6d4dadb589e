/** The first thing that root's lb4 does where it is to be the balancer: it begins anew without what it will not need (io/confinement.ts). */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { prepare } from '../io/before-confinement.ts';
import { privileges } from '../io/capabilities.ts';
import { confine, isConfined } from '../io/confinement.ts';
import { iptablesCommand } from '../rules/program.ts';
import { DEFAULT_FILES } from './default-files.ts';

const PACKET_MODES = ['-p', '--passthrough', '-d', '--dsr', '--inline'];
/** What iptables-legacy looks for, and loads by modprobe(8) where it is not there: that would take CAP_SYS_MODULE. */
const LEGACY = '/proc/net/ip_tables_names';
/** After so long a tool hangs. */
const MOST_MS = 5000;

/** @param args as they were typed */
export function confineBalancer(args: readonly string[]): void {
  if (isConfined(privileges())) return;
  const isPacketMode = args.some((arg) => PACKET_MODES.includes(arg));
  prepare({ isPacketMode, mayBeFast: mentionsFastPath(args) });
  if (isPacketMode && !args.includes('--no-rules')) loadLegacyTables();
  confine();
}

/** It is read in earnest later, by what takes its time to load. */
function mentionsFastPath(args: readonly string[]): boolean {
  const at = args.lastIndexOf('--config');
  const named = at < 0 ? args.findLast((arg) => arg.startsWith('--config='))?.slice('--config='.length) : args[at + 1];
  const file = named ?? DEFAULT_FILES.find((name) => existsSync(name)) ?? '';
  try {
    // Not what can be read but once.
    return statSync(file).isFile() && readFileSync(file, 'utf8').includes('fast_path');
  } catch {
    return false;
  }
}

function loadLegacyTables(): void {
  try {
    if (existsSync(LEGACY) || execFileSync(iptablesCommand(), ['--version'], { encoding: 'utf8', timeout: MOST_MS }).includes('nf_tables'))
      return;
    execFileSync('modprobe', ['ip_tables'], { stdio: 'ignore', timeout: MOST_MS });
  } catch {
    // Then the rules say so.
  }
}
