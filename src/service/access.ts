/** A frontend's rules about its clients: as data paths are told of them, and by name for whoever looks on. */
import { type Access, CROWDED, OVER_MAXCONN, OVER_RATE, REFUSED_DRY } from '../access/guard.ts';
import type { AccessList, PrefixList } from '../access/prefix-list.ts';
import { DENIED, NOT_ALLOWED, prefixTable, ruleOf, ruleOf6 } from '../access/prefix-table.ts';
import type { Address } from '../config/address.ts';
import type { Frontend } from '../config/model.ts';
import type { RuleView } from '../control/source.ts';
import { wordsOf6 } from '../ip.ts';
import { addressNumber } from '../packet/address.ts';

/** Bits of an IPv4 address that make a source, where the file does not say. */
const WHOLE_ADDRESS = 32;

/** Those of a configuration's frontends: plans come often, tables are made once. */
const made = new WeakMap<Frontend, Access | undefined>();

/** Undefined: all may connect, and as they like. */
export function accessOf(frontend: Frontend): Access | undefined {
  if (!made.has(frontend)) made.set(frontend, makeAccess(frontend));
  return made.get(frontend);
}

function makeAccess({ allow, deny, sourceRate = 0, sourceMaxconn = 0, sourcePrefix, denyAction, dryRun = false }: Frontend) {
  if (allow === undefined && deny === undefined && sourceRate === 0 && sourceMaxconn === 0) return undefined;
  return {
    ...tablesOf(allow, deny),
    sourceRate,
    sourceMaxconn,
    sourceBits: sourcePrefix ?? WHOLE_ADDRESS,
    resets: denyAction === 'reset',
    dryRun,
  };
}

type Tables = Pick<Access, 'table' | 'table6'>;

/** By a list of a file, of which frontends may share what it takes a while to make; and by what else goes into it. */
const shared = new WeakMap<PrefixList, Map<string, Tables>>();

function tablesOf(allow: AccessList | undefined, deny: AccessList | undefined): Tables {
  const rules = { allow: allow?.lists, deny: deny?.lists ?? [] };
  const make = () => ({ table: prefixTable(rules, 4), table6: prefixTable(rules, 6) });
  // Of lists that change by themselves (firewall-sets.ts) the last one is another then.
  const whose = [deny, allow].find((list) => list !== undefined && list.files.length > 0)?.lists.at(-1);
  if (whose === undefined) return make();
  const others = shared.get(whose) ?? new Map<string, Tables>();
  shared.set(whose, others);
  const key = `${allow?.summary} ${deny?.summary}`;
  const tables = others.get(key) ?? make();
  others.set(key, tables);
  return tables;
}

/** The list of a frontend that keeps an address out, in the file's words; undefined: none does, or it only counts (`dry_run`). */
export function deniedBy(frontend: Frontend, client: Pick<Address, 'family' | 'ip'>): string | undefined {
  return accessOf(frontend)?.dryRun === true ? undefined : wouldDeny(frontend, client);
}

/** The same whether or not the frontend only counts (`dry_run`). */
export function wouldDeny(frontend: Frontend, { family, ip }: Pick<Address, 'family' | 'ip'>): string | undefined {
  const { table, table6 } = accessOf(frontend) ?? {};
  const rule = family === 4 ? table && ruleOf(table, addressNumber(ip)) : table6 && ruleOf6(table6, wordsOf6(ip));
  return rulesOf(frontend).find(({ column }) => column === rule)?.rule;
}

/** Of a file's list, or a set of the firewall's. */
function ruleText(name: string): string {
  return name.startsWith('/') ? `deny @${name}` : `respect_firewall ${name}`;
}

/** The rules of a frontend, in the file's words, and where in a row of the refusals they are counted. */
export function rulesOf({ allow, deny, sourceRate, sourceMaxconn }: Frontend): RuleView[] {
  const denied = deny === undefined ? [] : ['deny', ...deny.files.map(ruleText)];
  const columns: [string, number][] = denied.map((rule, i) => [rule, DENIED + i]);
  if (allow !== undefined) columns.unshift(['allow', NOT_ALLOWED]);
  if (sourceRate !== undefined) columns.push(['source_rate', OVER_RATE]);
  if (sourceMaxconn !== undefined) columns.push(['source_maxconn', OVER_MAXCONN]);
  return columns.map(([rule, column]) => ({ rule, column, dryColumn: column + REFUSED_DRY }));
}

/** Where in that row connections are counted that its limits had no room for; undefined: it has no limits. */
export function unlimitedColumnOf({ sourceRate, sourceMaxconn }: Frontend): number | undefined {
  return sourceRate === undefined && sourceMaxconn === undefined ? undefined : CROWDED;
}
