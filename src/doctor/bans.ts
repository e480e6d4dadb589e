/**
 * Rules of the host's firewall that keep clients from frontends, and do not: lb4 takes packets off the interface before any of them sees one (packet(7)).
 * What counts as such drops or rejects by source, and could be meant for a frontend; a rule with matches that are not understood here is left out.
 */
import { iptablesCommand } from '../rules/program.ts';
import { ask, isNft, legacyTables } from '../rules/saved.ts';
import { covers } from './drop-rule.ts';
import { type Finding, type Host, warn } from './finding.ts';

/** A frontend, as rules know it. */
export interface Target {
  readonly ip: string;
  /** 0: it has none. */
  readonly port: number;
  readonly protocol: string;
}

const MEND = 'deny = ["@FILE"] in the frontend, or [passthrough] respect_firewall for a set of nft (docs/operations.md#who-may-connect)';

export async function bans({ config }: Pick<Host, 'config'>): Promise<Finding[]> {
  const targets = config.frontends.map(({ listen, backend }) => ({ ip: listen.ip, port: listen.port, protocol: backend.protocol.name }));
  const usual = iptablesCommand();
  const isFace = (await isNft(usual)) ?? false;
  // iptables-legacy makes a table by being asked about it.
  const legacy = legacyTables()
    .filter((table) => table !== '')
    .map((table) => ask(`${isFace ? 'iptables-legacy' : usual}-save`, '-t', table));
  const saved = await Promise.all([...(isFace ? [ask(`${usual}-save`)] : []), ...legacy]);
  const nft = await ask('nft', '-j', 'list', 'ruleset');
  const found = [
    ...saved.flatMap((text) => iptablesBans(text ?? '', targets)),
    ...nftBans(nft ?? '', targets, config.passthrough.respectFirewall),
  ];
  if (found.length === 0) return [];
  const count = found.length === 1 ? 'a rule that keeps clients out has' : `${found.length} rules that keep clients out have`;
  const named = found.slice(0, NAMED).join('; ') + (found.length > NAMED ? ' …' : '');
  const message = `${count} no effect on frontends, whose packets lb4 takes before the firewall sees them: ${named}`;
  return [warn('firewall', message, MEND)];
}

/** A line names so many rules. */
const NAMED = 5;

const IPTABLES_KNOWN = new Set(['-s', '-d', '-p', '-m', '-i', '--dport', '--match-set', '--comment', '-j', '--reject-with']);

/** Of what iptables-save prints: each such rule, as it stands there. */
export function iptablesBans(saved: string, targets: readonly Target[]): string[] {
  return saved.split('\n').filter((line) => /^-A .* -j (?:DROP|REJECT)\b/.test(line) && isIptablesBan(line, targets));
}

function isIptablesBan(line: string, targets: readonly Target[]): boolean {
  // A comment may hold blanks, in quotes; a set has a direction behind its name.
  const words = (line.match(/"[^"]*"|\S+/g) ?? []).slice(2);
  const options = new Map<string, string>();
  for (let at = 0; at < words.length; ) {
    const option = words[at++];
    if (!IPTABLES_KNOWN.has(option)) return false;
    options.set(option, words[at++] ?? '');
    if (option === '--match-set') options.set('set', words[at++] ?? '');
  }
  if (options.get('--comment') === 'lb4') return false;
  if (!options.has('-s') && options.get('set') !== 'src') return false;
  const [first = 0, last = first] = (options.get('--dport') ?? '0:65535').split(':').map(Number);
  return targets.some(
    ({ ip, port, protocol }) =>
      covers(options.get('-d'), ip) && (options.get('-p') ?? protocol) === protocol && first <= port && port <= last,
  );
}

interface NftRule {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  readonly comment?: string;
  readonly expr: readonly Readonly<Record<string, unknown>>[];
}

interface NftMatch {
  readonly op: string;
  readonly left?: { readonly payload?: { readonly protocol?: string; readonly field?: string }; readonly meta?: { readonly key: string } };
  readonly right: unknown;
}

/** Tables that iptables-nft keeps: iptables-save has their rules. */
const IPTABLES_TABLES = new Set(['raw', 'mangle', 'nat', 'filter', 'security']);

/**
 * Of what `nft -j list ruleset` prints: each such rule, by its place and source.
 * @param respected sets ("inet filter blocked") that keep clients out by lb4 as well
 */
export function nftBans(json: string, targets: readonly Target[], respected: readonly string[] = []): string[] {
  return rulesIn(json).flatMap(({ family, table, chain, comment, expr }) => {
    const isOthers = (family === 'ip' && IPTABLES_TABLES.has(table)) || table.startsWith('lb4') || comment === 'lb4';
    if (isOthers || !expr.some((one) => 'drop' in one || 'reject' in one)) return [];
    const matches = expr.flatMap((one) => ('match' in one ? [one['match'] as NftMatch] : []));
    const source = matches.find(
      (match) => match.op === '==' && match.left?.payload?.field === 'saddr' && match.left.payload.protocol === 'ip',
    );
    if (source === undefined || respected.some((set) => `${family} ${table} ${textOf(source.right)}` === set.replace(/(\S+)$/, '@$1')))
      return [];
    if (!targets.some((target) => matches.every((match) => match === source || isFor(match, target)))) return [];
    return [`${family} ${table} ${chain}: ip saddr ${textOf(source.right)}`];
  });
}

function rulesIn(json: string): NftRule[] {
  try {
    const { nftables } = JSON.parse(json) as { nftables: readonly { readonly rule?: NftRule }[] };
    return nftables.flatMap(({ rule }) => (rule === undefined ? [] : [rule]));
  } catch {
    // There is no nft, or it is one that prints no JSON.
    return [];
  }
}

/** Whether a match, beside that of the source, may be met by what goes to a frontend. */
function isFor({ op, left, right }: NftMatch, { ip, port, protocol }: Target): boolean {
  const field = left?.payload?.field ?? left?.meta?.key;
  if (field === 'iifname' || field === 'iif') return true;
  if (op !== '==' || left?.payload === undefined) return field === 'l4proto' && right === protocol;
  if (field === 'daddr') return covers(textOf(right), ip);
  return field === 'dport' && left.payload.protocol === protocol && right === port;
}

/** An address, a prefix or the name of a set. */
function textOf(right: unknown): string {
  if (typeof right !== 'object' || right === null || !('prefix' in right)) return typeof right === 'string' ? right : JSON.stringify(right);
  const { addr, len } = right.prefix as { readonly addr: string; readonly len: number };
  return `${addr}/${len}`;
}
