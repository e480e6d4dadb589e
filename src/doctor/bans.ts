/**
 * Rules of the host's firewall that keep clients from frontends, and do not: lb4 takes packets off the interface before any of them sees one (packet(7)).
 * Such a rule drops or rejects by source, or lets in by source what is dropped else, and could be meant for a frontend; one with matches that are not
 * understood here is left out.
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

/** What is understood of a rule. */
interface Rule {
  readonly text: string;
  /** Rules of one add to each other. */
  readonly table: string;
  readonly verdict: 'drop' | 'accept';
  /** It looks at where a packet comes from: the address, or a set of them. */
  readonly source: string | undefined;
  /** It looks at the interface. */
  readonly isOfInterface: boolean;
  readonly isFor: (target: Target) => boolean;
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

/** Those that keep somebody out: by their source, or, where what no rule lets in is dropped, by letting in others alone. */
function bansAmong(rules: readonly Rule[], closed: ReadonlySet<string>, targets: readonly Target[]): string[] {
  const isOpen = (table: string, target: Target) =>
    rules.some(
      (rule) => rule.table === table && rule.verdict === 'accept' && rule.source === undefined && !rule.isOfInterface && rule.isFor(target),
    );
  const bans = rules.filter(({ source, verdict, table, isOfInterface, isFor }) => {
    if (source === undefined) return false;
    if (verdict === 'drop') return targets.some(isFor);
    return closed.has(table) && !isOfInterface && targets.some((target) => isFor(target) && !isOpen(table, target));
  });
  return bans.map(({ text }) => text);
}

const IPTABLES_KNOWN = new Set(['-s', '-d', '-p', '-m', '-i', '--dport', '--match-set', '--comment', '-j', '--reject-with']);

/** Of what iptables-save prints: each such rule, as it stands there. */
export function iptablesBans(saved: string, targets: readonly Target[]): string[] {
  const [rules, closed] = [[] as Rule[], new Set<string>()];
  let table = '';
  for (const line of saved.split('\n')) {
    if (line.startsWith('*')) table = line;
    else if (/^:(?:INPUT|FORWARD|PREROUTING) DROP\b/.test(line)) closed.add(table);
    else {
      const rule = iptablesRule(line, table);
      if (rule !== undefined) rules.push(rule);
    }
  }
  return bansAmong(rules, closed, targets);
}

function iptablesRule(line: string, table: string): Rule | undefined {
  const verdict = /^-A .* -j (DROP|REJECT|ACCEPT)\b/.exec(line)?.[1];
  if (verdict === undefined) return undefined;
  // A comment may hold blanks, in quotes; a set has a direction behind its name.
  const words = (line.match(/"[^"]*"|\S+/g) ?? []).slice(2);
  const options = new Map<string, string>();
  for (let at = 0; at < words.length; ) {
    const option = words[at++];
    if (!IPTABLES_KNOWN.has(option)) return undefined;
    options.set(option, words[at++] ?? '');
    if (option === '--match-set') options.set('set', words[at++] ?? '');
  }
  if (options.get('--comment') === 'lb4') return undefined;
  const [first = 0, last = first] = (options.get('--dport') ?? '0:65535').split(':').map(Number);
  return {
    text: line,
    table,
    verdict: verdict === 'ACCEPT' ? 'accept' : 'drop',
    source: options.get('-s') ?? (options.get('set') === 'src' ? options.get('--match-set') : undefined),
    isOfInterface: options.has('-i'),
    isFor: ({ ip, port, protocol }) =>
      covers(options.get('-d'), ip) && (options.get('-p') ?? protocol) === protocol && first <= port && port <= last,
  };
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

interface NftChain {
  readonly family: string;
  readonly table: string;
  readonly policy?: string;
}

/**
 * Of what `nft -j list ruleset` prints: each such rule, by its place and source.
 * @param respected sets ("inet filter blocked") that keep clients out by lb4 as well
 */
export function nftBans(json: string, targets: readonly Target[], respected: readonly string[] = []): string[] {
  const { rules, chains } = nftIn(json);
  const closed = chains.flatMap(({ family, table, policy }) => (policy === 'drop' ? [`${family} ${table}`] : []));
  const isRespected = ({ table, source, verdict }: Rule) =>
    verdict === 'drop' && respected.some((set) => `${table} ${source}` === set.replace(/(\S+)$/, '@$1'));
  const understood = rules.flatMap((rule) => nftRule(rule) ?? []).filter((rule) => !isRespected(rule));
  return bansAmong(understood, new Set(closed), targets);
}

function nftRule({ family, table, chain, comment, expr }: NftRule): Rule | undefined {
  if ((family === 'ip' && IPTABLES_TABLES.has(table)) || table.startsWith('lb4') || comment === 'lb4') return undefined;
  const isDrop = expr.some((one) => 'drop' in one || 'reject' in one);
  if (!isDrop && !expr.some((one) => 'accept' in one)) return undefined;
  const matches = expr.flatMap((one) => ('match' in one ? [one['match'] as NftMatch] : []));
  const from = matches.find((match) => match.op === '==' && match.left?.payload?.field === 'saddr' && match.left.payload.protocol === 'ip');
  const source = from === undefined ? undefined : textOf(from.right);
  return {
    text: `${family} ${table} ${chain}: ${isDrop ? '' : 'lets in '}ip saddr ${source}`,
    table: `${family} ${table}`,
    verdict: isDrop ? 'drop' : 'accept',
    source,
    isOfInterface: matches.some((match) => INTERFACES.has(fieldOf(match) ?? '')),
    isFor: (target) => matches.every((match) => match === from || isFor(match, target)),
  };
}

function nftIn(json: string): { rules: NftRule[]; chains: NftChain[] } {
  try {
    const { nftables } = JSON.parse(json) as { nftables: readonly { readonly rule?: NftRule; readonly chain?: NftChain }[] };
    return { rules: nftables.flatMap(({ rule }) => rule ?? []), chains: nftables.flatMap(({ chain }) => chain ?? []) };
  } catch {
    // There is no nft, or it is one that prints no JSON.
    return { rules: [], chains: [] };
  }
}

const INTERFACES = new Set(['iifname', 'iif']);

function fieldOf({ left }: NftMatch): string | undefined {
  return left?.payload?.field ?? left?.meta?.key;
}

/** Whether a match, beside that of the source, may be met by what goes to a frontend. */
function isFor(match: NftMatch, { ip, port, protocol }: Target): boolean {
  const { op, left, right } = match;
  const field = fieldOf(match) ?? '';
  if (INTERFACES.has(field)) return true;
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
