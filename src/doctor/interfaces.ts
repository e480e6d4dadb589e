import { availableParallelism } from 'node:os';
import { read } from '../rules/read.ts';
import { ask } from '../rules/saved.ts';
import { type Finding, type Host, ok, warn } from './finding.ts';
import type { Link } from './network.ts';

/** What the interfaces that lb4 uses do to its packets. */
export async function interfaces(host: Host): Promise<Finding[]> {
  const { links } = host;
  const offloads = await Promise.all(links.filter(({ name }) => name !== 'lo').map(offload));
  return [...offloads, ...links.map(reversePath), ...bridges(host), ...links.filter(({ kind }) => kind === 'veth').flatMap(order)];
}

/** Super-packets and partial checksums are fine as they are; LRO's are not: it forgets how they were cut. */
export async function offload({ name }: Pick<Link, 'name'>): Promise<Finding> {
  const told = await ask('ethtool', '-k', name);
  if (told === undefined) return warn('offloads', `${name}: only ethtool can tell`, 'apt-get install ethtool');
  const state = (feature: string) => new RegExp(`^\\s*${feature}: (on|off)`, 'm').exec(told)?.[1] ?? '?';
  const text =
    `${name}: GRO ${state('generic-receive-offload')}, LRO ${state('large-receive-offload')}, TSO ${state('tcp-segmentation-offload')}, ` +
    `checksums rx ${state('rx-checksumming')} tx ${state('tx-checksumming')}`;
  if (state('large-receive-offload') === 'on')
    return warn('offloads', `${text}; what LRO joins cannot be forwarded`, `ethtool -K ${name} lro off gro on`);
  return ok('offloads', text);
}

/** Strict reverse path filtering (RFC 3704). The larger of "all" and the interface's own counts. */
function reversePath({ name }: Link): Finding {
  const value = Math.max(...['all', name].map((one) => Number(read(`/proc/sys/net/ipv4/conf/${one}/rp_filter`) ?? 0)));
  if (value !== 1) return ok('rp_filter', `${name}: ${value === 2 ? 'loose' : 'off'}`);
  return warn(
    'rp_filter',
    `${name}: strict; a health check's answer that comes in on another interface than the route to its server is dropped`,
    `sysctl -w net/ipv4/conf/${name}/rp_filter=2`,
  );
}

/** Frames of a bridge that meet iptables while they are the bridge's want other rules, and a raw DROP of nobody (firewall.ts). */
function bridges({ links, form }: Host): Finding[] {
  if (form.name === 'input') return [ok('bridge', `${form.why}; lb4's rules drop in INPUT, which is right for that`)];
  return links.some(({ kind }) => kind === 'bridge') ? [ok('bridge', `${form.why}; lb4's rules drop in the raw table`)] : [];
}

/** veth leaves a frame to the CPU that sent it: where two CPUs send for one connection, its segments overtake each other. */
function order({ name }: Link): Finding[] {
  const file = `/sys/class/net/${name}/queues/rx-0/rps_cpus`;
  // /sys may show another network namespace than ours (ip-netns(8)): then there is nothing to say.
  const mask = read(file);
  if (mask === undefined || availableParallelism() === 1) return [];
  if (/[^0,]/.test(mask)) return [ok('order', `${name}: frames of a connection stay on one CPU (rps_cpus ${mask})`)];
  return [warn('order', `${name}: veth reorders segments that two CPUs send, which TCP then repeats`, `echo 3 >${file}`)];
}
