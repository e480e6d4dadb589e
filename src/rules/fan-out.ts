/**
 * Fan-out: the kernel alone spreads one port over processes of this host, by NAT rules that each connection's first packet meets. Here are the rules
 * as nft and iptables spell them; iptables/fan-out.sh puts them in place.
 */
import { createHash } from 'node:crypto';
import { isIPv6 } from 'node:net';
import { cascade, intervals, reduced, turns } from './fan-out-shares.ts';
import { renderTemplate } from './render.ts';
import { CHECK_ADDRESS, type FanOutDialect, type FanOutInput, type FanOutRules } from './types.ts';

type Family = 4 | 6;

/** Any number will do, the same one always: a client is to stay with its process when rules are swapped. */
const SEED = '0x6c6234';
/** Just before whatever else translates destinations (NF_IP_PRI_NAT_DST, -100); by number, since nft knows no name for it in OUTPUT. */
const PRIORITY = -101;
/** By which iptables' are known. */
const TAG = ' -m comment --comment lb4';

/**
 * The script that puts them in place: POSIX sh, run as `sh FILE install|remove|status [--dry-run]`.
 * @throws RangeError for what is no address, port or weight: only such reach the shell
 */
export function renderFanOutScript(services: readonly FanOutInput[], dialect: FanOutDialect): string {
  for (const service of services) assertSafe(service);
  const processes = services.flatMap(({ ports, protocol }) => ports.map(({ port }) => `${protocol}:${port}`));
  const rules = dialect === 'nft' ? nftRules(services) : iptablesRules(services);
  return renderTemplate('fan-out.sh', {
    DIALECT: dialect,
    TABLE: dialect === 'nft' && rules.length > 0 ? `\n${nftTable(rules)}\n` : '',
    RULES: dialect === 'iptables' && rules.length > 0 ? `\n${rules.map(({ chain, text }) => `${chain} ${text}`).join('\n')}\n` : '',
    PROCESSES: [...new Set(processes)].join('\n'),
  });
}

/** Rules of nft, with the chain that each stands in. */
export function nftRules(services: readonly FanOutInput[]): FanOutRules {
  return services.flatMap((service) => {
    const to = nftTargets(service);
    const incoming = wholeFamilies(service).map((family) => ({ chain: 'prerouting', text: `${nftMatch(service, family)} ${to(family)}` }));
    // One family a rule: of IPv4 what lb4's own checks call is left alone.
    const own = familiesOf(service).map((family) => {
      const but = family === 4 ? ` ip daddr != ${CHECK_ADDRESS}` : '';
      return { chain: 'output', text: `${nftMatch(service, family, but)} ${to(family)}` };
    });
    return [...incoming, ...(service.local ? own : [])];
  });
}

/** As `nft -f` takes it: whatever stood there goes in the same transaction. Each rule's comment names what it was made of, for `status`. */
export function nftTable(rules: FanOutRules): string {
  const chains = ['prerouting', 'output'].filter((name) => rules.some(({ chain }) => chain === name));
  const blocks = chains.map((name) => {
    const own = rules.filter(({ chain }) => chain === name).map(({ text }) => `    ${text} comment "lb4 ${markOf(`${name} ${text}`)}"\n`);
    return `  chain ${name} {\n    type nat hook ${name} priority ${PRIORITY}; policy accept;\n${own.join('')}  }\n`;
  });
  return `table inet lb4_fan_out\ndelete table inet lb4_fan_out\ntable inet lb4_fan_out {\n${blocks.join('')}}`;
}

/** 16 hexadecimal digits: another rule in the place of one is noticed. */
function markOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** `4 PREROUTING -p tcp …`: the family, the chain of the table nat and the rule as iptables-save spells it, in their order. */
export function iptablesRules(services: readonly FanOutInput[]): FanOutRules {
  return ([4, 6] as const).flatMap((family) => {
    const here = services.filter((service) => familiesOf(service).includes(family));
    const chains = [
      { name: 'PREROUTING', all: here },
      { name: 'OUTPUT', all: here.filter(({ local }) => local) },
    ];
    return chains.flatMap(({ name, all }) => {
      return all.flatMap((service) => {
        const match = iptablesMatch(service, family, name === 'OUTPUT');
        return iptablesSteps(service).map((step) => ({ chain: `${family} ${name}`, text: `${match}${step}` }));
      });
    });
  });
}

/**
 * The part of a rule that says where to. Nowhere: it only asks for connection tracking, which with the last rule of NAT would be at rest, and then
 * connections that were spread break.
 */
function nftTargets(service: FanOutInput): (family: Family | undefined) => string {
  const { balance, ports } = service;
  const up = reduced(ports.filter(({ isUp, weight }) => isUp && weight > 0));
  const [first] = up;
  if (first === undefined) return () => 'ct state new';
  if (up.length === 1) return () => `redirect to :${first.port}`;
  if (balance === 'source') {
    const { size, text } = mapOf(steadily(ports));
    return (family) => `redirect to :jhash ${family === 6 ? 'ip6' : 'ip'} saddr mod ${size} seed ${SEED} map ${text}`;
  }
  const { size, text } = balance === 'random' ? intervalsOf(up) : mapOf(turns(up));
  return () => `redirect to :numgen ${balance === 'random' ? 'random' : 'inc'} mod ${size} map ${text}`;
}

/** Places by the hash of the client: those of a process that is down go to the others in turn, and nobody else moves. */
function steadily(ports: FanOutInput['ports']): number[] {
  const all = reduced(ports.filter(({ weight }) => weight > 0));
  const left = turns(all.filter(({ isUp }) => isUp));
  let next = 0;
  return turns(all)
    .sort((a, b) => a - b)
    .map((port) => (all.some((one) => one.port === port && one.isUp) ? port : (left[next++ % left.length] ?? port)));
}

/** Places with the same port beside each other are one interval. */
function mapOf(places: readonly number[]): { readonly size: number; readonly text: string } {
  const runs: { port: number; weight: number }[] = [];
  for (const port of places) {
    const last = runs.at(-1);
    if (last?.port === port) last.weight++;
    else runs.push({ port, weight: 1 });
  }
  return intervalsOf(runs);
}

function intervalsOf(runs: readonly { readonly port: number; readonly weight: number }[]) {
  const { size, all } = intervals(runs.map(({ weight }) => weight));
  const parts = runs.map(({ port }, i) => `${all[i]} : ${port}`);
  return { size, text: `{ ${parts.join(', ')} }` };
}

function nftMatch({ listen, protocol }: FanOutInput, family: Family | undefined, but = ''): string {
  const to = `${protocol} dport ${listen.port}`;
  if (listen.ip !== undefined) return `${listen.family === 6 ? 'ip6' : 'ip'} daddr ${listen.ip} ${to}`;
  // Of this host alone: a router's clients may call others by that port, and its own programs as well.
  return `${family === undefined ? '' : `meta nfproto ipv${family} `}fib daddr type local${but} ${to}`;
}

function iptablesMatch({ listen, protocol }: FanOutInput, family: Family, isOwn: boolean): string {
  const to = `-p ${protocol} -m ${protocol} --dport ${listen.port}`;
  if (listen.ip !== undefined) return `-d ${listen.ip}/${family === 4 ? 32 : 128} ${to}`;
  return `${isOwn && family === 4 ? `! -d ${CHECK_ADDRESS}/32 ` : ''}${to} -m addrtype --dst-type LOCAL`;
}

/** One rule after the other takes its share of what is left; the last one takes all. With nowhere to go one asks for connection tracking alone, as in nft. */
function iptablesSteps({ balance, ports }: FanOutInput): string[] {
  if (balance === 'source') throw new RangeError('iptables has no match that hashes');
  const up = reduced(ports.filter(({ isUp, weight }) => isUp && weight > 0));
  if (up.length === 0) return [` -m conntrack --ctstate NEW${TAG}`];
  const step = (port: number, how = '') => `${how}${TAG} -j REDIRECT --to-ports ${port}`;
  if (balance === 'random') {
    const steps = cascade(up.map(({ weight }) => weight));
    return up.map(({ port }, i) => step(port, steps[i] === undefined ? '' : ` -m statistic --mode random --probability ${steps[i]}`));
  }
  const order = turns(up);
  return order.map((port, i) => {
    const left = order.length - i;
    return step(port, left === 1 ? '' : ` -m statistic --mode nth --every ${left} --packet 0`);
  });
}

/** Undefined: one rule for both. */
function wholeFamilies(service: FanOutInput): readonly (Family | undefined)[] {
  const families = familiesOf(service);
  return families.length === 2 && service.balance !== 'source' ? [undefined] : families;
}

function familiesOf({ listen: { family } }: FanOutInput): readonly Family[] {
  return family === undefined ? [4, 6] : [family];
}

function assertSafe({ listen, ports, protocol, balance }: FanOutInput): void {
  const isPort = (port: number) => Number.isInteger(port) && port >= 1 && port <= 65535;
  const isWeight = (weight: number) => weight >= 0 && weight <= 65535;
  const isIp = listen.ip === undefined || /^[\d.]+$/.test(listen.ip) || isIPv6(listen.ip);
  const isKnown = ['tcp', 'udp'].includes(protocol) && ['roundrobin', 'random', 'source'].includes(balance);
  const isGood = isIp && isKnown && isPort(listen.port) && ports.every(({ port, weight }) => isPort(port) && isWeight(weight));
  if (!isGood) throw new RangeError(`no fan-out: ${JSON.stringify({ listen, ports, protocol, balance })}`);
}
