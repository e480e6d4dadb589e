/** What a packet mode does not do where the kernel's own NAT would: README's limits, as far as they concern this host. */
import { type Finding, type Host, ok, warn } from './finding.ts';
import { ask, read } from './read.ts';

export async function limits(host: Host): Promise<Finding[]> {
  return [...localClients(host), ...callers(host), ...(await sourceNat())];
}

function localClients({ config }: Host): Finding[] {
  const vips = [...new Set(config.frontends.map(({ listen }) => listen.ip))].slice(0, 3).join(', ');
  return [ok('limits', `programs on this host itself are not balanced when they call ${vips}: only clients elsewhere are`)];
}

/** What comes back to its sender has the sender's own address as its source: a martian (RFC 1812 section 5.3.7). */
function callers({ mode, config }: Host): Finding[] {
  if (mode !== 'dsr' || !config.backends.some(({ dsr }) => dsr === 'nat')) return [];
  return [ok('limits', 'with dsr = "nat" a server that calls a frontend gets no answer where it is balanced to itself')];
}

/** Packets whose next hop is not resolved yet, or has no Ethernet, go by the kernel's routing, and so through its NAT. */
async function sourceNat(): Promise<Finding[]> {
  if ((await ask('nft', '--version')) !== undefined || !/-j (MASQUERADE|SNAT)\b/.test(await natRules())) return [];
  const why =
    'without nft lb4 cannot keep its own packets from it: a first packet, or all over a link without Ethernet, may get another source';
  return [warn('NAT', `this host has source NAT; ${why}`, 'apt-get install nftables')];
}

/** iptables-legacy makes a table by looking at it. */
async function natRules(): Promise<string> {
  const iptables = process.env['LB4_IPTABLES'] ?? 'iptables';
  const isThere = (await ask(iptables, '--version'))?.includes('nf_tables') || /^nat$/m.test(read('/proc/net/ip_tables_names') ?? '');
  return (isThere ? await ask(`${iptables}-save`, '-t', 'nat') : undefined) ?? '';
}
