/** The firewall rules and the reserved ports that lb4 installs, for the guard. One script puts both in place. */

import { readFile } from 'node:fs/promises';
import { MODES, type PacketMode } from '../config/modes.ts';
import { FailureError } from '../errors.ts';
import { CLIENT_PORTS, rangeText } from '../layout/ports.ts';
import { readNftTable, readRules, runRules } from '../rules/run.ts';
import { piecesOf, plain } from '../rules/status.ts';
import type { HostState } from './guard.ts';

const RESERVED = '/proc/sys/net/ipv4/ip_local_reserved_ports';

export interface Installed {
  readonly mode: PacketMode;
  /** The same while the same rules are to stand: they may change between any two calls. */
  key(): string;
  /** Where they are. */
  tables(): readonly string[];
  /** Whether the table `lb4_untracked` belongs to them: false where this host refused it. */
  untracks(): boolean;
  /** Installs them. */
  script(): string;
}

export function hostRules(installed: Installed): HostState[] {
  const repair = async () => {
    const { warnings } = await runRules(installed.script(), 'install');
    const refused = installed.untracks() ? warnings.find(isOfTable) : undefined;
    if (refused !== undefined) throw new FailureError(refused);
  };
  const rules = new RulesReading(installed);
  const all: HostState[] = [
    {
      what: 'rules',
      name: 'firewall rules',
      usually: 'a restart of the firewall does this',
      fresh: true,
      verify: async () => [...(await rules.verify()), ...(await untrackedTable(installed))],
      repair,
    },
  ];
  if (MODES[installed.mode].source !== 'pool') return all;
  const ports: HostState = {
    what: 'reserved_ports',
    name: 'reserved ports',
    usually: '`sysctl --system` and tools that tune a host do this',
    verify: async () => lacking(await readFile(RESERVED, 'utf8')),
    repair,
  };
  return [...all, ports];
}

/** Whether a warning of the script's says that this host refuses the table `lb4_untracked`. */
export function isOfTable(warning: string): boolean {
  return warning.startsWith('what lb4 sends is tracked');
}

/** What lb4 sends by the kernel's routing shall pass no NAT: for that the script makes a table, of rules with comments "lb4 MARK 1/2". */
async function untrackedTable(installed: Installed): Promise<readonly string[]> {
  if (!installed.untracks()) return [];
  const table = await readNftTable('lb4_untracked');
  // Without nft (any more) nothing is known, and nothing can be put back.
  if (table === undefined) return [];
  const parts = [...table.matchAll(/comment "lb4 \d+ \d\/(\d)"/g)];
  return parts.length > 0 && parts.length === Number(parts[0]?.[1]) ? [] : ['nft table ip lb4_untracked'];
}

/** The script's `status` says whether all is there, but compares thousands of lines in sh. So it is asked only when what the kernel has changed. */
class RulesReading {
  readonly #installed: Installed;
  /** What iptables-save said when the rules of that key were all there. */
  #good = { key: '', reading: '' };

  constructor(installed: Installed) {
    this.#installed = installed;
  }

  async verify(): Promise<readonly string[]> {
    const key = this.#installed.key();
    const reading = await readRules(this.#installed.tables());
    if (key === this.#good.key && reading === this.#good.reading) return [];
    const { output } = await runRules(this.#installed.script(), 'status');
    const rules = piecesOf(output).filter(({ kind }) => kind === 'rule' || kind === 'fragments');
    const wrong = rules.filter(({ state }) => state !== 'present' && state !== 'refused');
    // Read again: between the reading and `status` somebody may have changed what was read.
    if (wrong.length === 0 && reading === (await readRules(this.#installed.tables()))) this.#good = { key, reading };
    return wrong.map(({ state, text }) => `${state} ${plain(text)}`);
  }
}

/** @param text ports and ranges as the kernel writes them, those that touch as one: "80,33768-61000" */
function lacking(text: string): string[] {
  const covers = text.split(',').some((range) => {
    const [first = Number.NaN, last = first] = range.split('-').map(Number);
    return first <= CLIENT_PORTS.first && CLIENT_PORTS.last <= last;
  });
  return covers ? [] : [`net.ipv4.ip_local_reserved_ports is "${text.trim()}", without all of ${rangeText(CLIENT_PORTS)}`];
}
