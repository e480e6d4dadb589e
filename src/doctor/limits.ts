/** What a packet mode does not do where the kernel's own NAT would: README's limits, as far as they concern this host. */

import type { Address, Backend, TransportProtocol } from '../config/model.ts';
import { MODES, rewritesAnswers } from '../config/modes.ts';
import { ask, savedRules } from '../rules/saved.ts';
import { PING } from '../rules/types.ts';
import { type Finding, type Host, ok, warn } from './finding.ts';

export async function limits(host: Host): Promise<Finding[]> {
  return [...localClients(host), ...callers(host), ...(await sourceNat(host)), ...(await filters()), ...(await ipsec())];
}

function localClients({ config }: Host): Finding[] {
  const vips = [...new Set(config.frontends.map(({ listen }) => listen.ip))].slice(0, 3).join(', ');
  return [ok('limits', `programs on this host itself are not balanced when they call ${vips}: only clients elsewhere are`)];
}

/** What comes back to its sender has the sender's own address as its source: a martian (RFC 1812 section 5.3.7). */
function callers({ mode, config }: Host): Finding[] {
  if (!config.backends.some((backend) => rewritesAnswers(mode, backend))) return [];
  return [ok('limits', 'with dsr = "nat" a server that calls a frontend gets no answer where it is balanced to itself')];
}

/** Packets whose next hop is not resolved yet, or has no Ethernet, go by the kernel's routing, and so through its NAT. */
async function sourceNat({ mode, config, paths }: Host): Promise<Finding[]> {
  const hasNft = (await ask('nft', '--version')) !== undefined;
  const routed = config.backends.filter((backend) => rewritesAnswers(mode, backend)).flatMap(addressed);
  // What is sent from ports of lb4's own has a table that keeps it untracked.
  if (MODES[mode].source === 'pool' ? hasNft : routed.length === 0) return [];
  const links = new Set(paths.map(({ link }) => link));
  const rules = await rulesOf('nat');
  if (!rules.some((rule) => /-j (MASQUERADE|SNAT)\b|\bmasquerade\b|\bsnat (ip )?to\b/.test(rule) && isFor(rule, links))) return [];
  const what = 'a first packet, or all over a link without Ethernet, may get another source';
  const [first] = routed;
  if (first === undefined) {
    const why = `this host has source NAT; without nft lb4 cannot keep its own packets from it: ${what}`;
    return [warn('NAT', why, 'apt-get install nftables')];
  }
  const mend = `iptables -t nat -I POSTROUTING -p ${first.protocol.name} -d ${first.addr.ip}${first.protocol.name === PING ? '' : ` --dport ${first.addr.port}`} -j ACCEPT (and so for each server)`;
  return [warn('NAT', `this host has source NAT; in DSR mode it changes what lb4 sends to servers, too: ${what}`, mend)];
}

function addressed({ servers, protocol }: Backend): { addr: Address; protocol: TransportProtocol }[] {
  return servers.map(({ addr }) => ({ addr, protocol }));
}

/** False: it names an interface, and none that leads to a server. */
function isFor(rule: string, links: ReadonlySet<string | undefined>): boolean {
  const name = /(?<!! )-o (\S+)|\boifname "([^"]+)"/.exec(rule);
  return name === null || links.has(name[1] ?? name[2]);
}

/** lb4 has its copy of a frame before iptables, and what it sends goes past it. */
async function filters(): Promise<Finding[]> {
  const drops = (await rulesOf('filter')).some((rule) =>
    /^:FORWARD DROP|^-A FORWARD .*-j (DROP|REJECT)\b|hook forward .*policy drop/.test(rule),
  );
  const why = 'FORWARD drops packets of others, none of those that lb4 forwards: filter them in front of this host, or on the servers';
  return drops ? [warn('firewall', why, 'iptables -S FORWARD')] : [];
}

/** Policies of sockets ("socket out") are no matter: lb4's packets have no socket. */
async function ipsec(): Promise<Finding[]> {
  const policy = /^src (\S+) dst (\S+).*\n\s+dir out\b/m.exec((await ask('ip', 'xfrm', 'policy')) ?? '');
  if (policy === null) return [];
  const why = `this host encrypts what goes from ${policy[1]} to ${policy[2]}; what lb4 sends goes past that, in the clear`;
  return [warn('IPsec', `${why}: let another host do it`, 'ip xfrm policy')];
}

/** One a line: those of a table of iptables, and whatever nft has. */
async function rulesOf(table: 'nat' | 'filter'): Promise<string[]> {
  return `${await savedRules(table)}\n${(await ask('nft', '-t', 'list', 'ruleset')) ?? ''}`.split('\n');
}
