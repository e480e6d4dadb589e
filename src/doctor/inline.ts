/** The interfaces that lb4 is to stand between, and what keeps the kernel away from them. */
import type { Inline } from '../config/model.ts';
import type { Interface } from '../io/native.ts';
import { blocked, portNames, unfit } from '../rules/inline-ports.ts';
import { ask } from '../rules/saved.ts';
import { type Finding, fail, ok, warn } from './finding.ts';
import { offload } from './interfaces.ts';
import { linksNow } from './network.ts';

export async function inlinePorts(inline: Inline): Promise<Finding[]> {
  const links = linksNow();
  const names = portNames(inline);
  const there = names.filter((name) => links.some((link) => link.name === name));
  const nft = await ask('nft', '--version');
  return [
    nft === undefined
      ? fail('nft', 'not found: it keeps the kernel away from the interfaces', 'apt-get install nftables')
      : ok('nft', nft.trim()),
    ...names.map((name) => judgePort(name, links)),
    ...judgeMtus(there.flatMap((name) => links.filter((link) => link.name === name))),
    ...(await Promise.all(there.map((name) => offload({ name })))),
  ];
}

export function judgePort(name: string, links: readonly Interface[]): Finding {
  const wrong = unfit(name, links);
  if (wrong !== undefined) return fail('interface', wrong.problem, wrong.needed);
  const reason = blocked(name, links);
  return reason === undefined ? ok('interface', `${name}: up, and has no address`) : fail('interface', reason, `ip link set ${name} up`);
}

/** A frame that is too large for the other side is lost, unless it is a service's. */
export function judgeMtus(links: readonly Pick<Interface, 'name' | 'mtu'>[]): Finding[] {
  const smallest = Math.min(...links.map(({ mtu }) => mtu));
  const larger = links.filter(({ mtu }) => mtu !== smallest);
  if (links.length === 0 || larger.length === 0) return [];
  const all = links.map(({ name, mtu }) => `${name} ${mtu}`).join(', ');
  return [
    warn('mtu', `they differ (${all}): what is too large for the other side is lost`, `ip link set ${larger[0].name} mtu ${smallest}`),
  ];
}
