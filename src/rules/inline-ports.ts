/** The interfaces of [inline] on this host: whether lb4 can stand between them. */
import { networkInterfaces } from 'node:os';
import type { Inline } from '../config/model.ts';
import type { Interface } from '../io/native.ts';

const ETHERNET_BYTES = 6;

/** The interfaces, on either side. */
export function portNames({ backend, frontends }: Inline): string[] {
  return [backend, ...frontends.map(({ name }) => name)];
}

/** Addresses of an interface that is up, but for those that IPv6 gives each by itself, and which go with it. */
export function addressesAt(name: string): string[] {
  return (networkInterfaces()[name] ?? []).map(({ address }) => address).filter((address) => !address.startsWith('fe80:'));
}

/** Why lb4 cannot stand at an interface, and what is needed; undefined: it can. */
export function unfit(name: string, links: readonly Interface[]): { readonly problem: string; readonly needed: string } | undefined {
  const link = links.find((one) => one.name === name);
  if (link === undefined) return { problem: `there is no interface ${name}`, needed: `one of ${links.map((one) => one.name).join(', ')}` };
  if (link.mac.length !== ETHERNET_BYTES || name === 'lo')
    return { problem: `${name} is no Ethernet interface`, needed: 'one on either side' };
  const [address] = addressesAt(name);
  if (address !== undefined)
    return {
      problem: `${name} has the address ${address}, which nobody would reach there any more`,
      needed: `ip address flush dev ${name}`,
    };
  const [upper] = uppersOf(link, links);
  if (upper !== undefined)
    return {
      problem: `${upper.name} is on ${name}, and would get no frame any more`,
      needed: `${upper.name} on another interface, or none`,
    };
  const master = links.find(({ index }) => index === link.master);
  return master && { problem: `${name} is a port of ${master.name}, which takes its frames`, needed: `ip link set ${name} nomaster` };
}

/** VLANs, macvlans and others that get their frames from `link`: nothing that comes by it reaches them behind lb4's back. */
export function uppersOf(link: Interface, links: readonly Interface[]): Interface[] {
  return links.filter((one) => one.link === link.index && one.kind !== 'veth');
}

/** Why nothing passes an interface just now. */
export function blocked(name: string, links: readonly Interface[]): string | undefined {
  const link = links.find((one) => one.name === name);
  if (link === undefined) return `${name} is gone`;
  if (!link.up) return `${name} is down`;
  return link.carrier ? undefined : `${name} has no carrier`;
}
