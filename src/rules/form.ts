/** Which form of the balancer's rules is right on this host as it is now. */
import { addonError } from '../errors.ts';
import { type Interface, native, type RouteSocket } from '../io/native.ts';
import { parseAddress } from '../packet/address.ts';
import { read } from './read.ts';
import type { Form } from './types.ts';

/** Of the network namespace of whoever reads it; absent without br_netfilter (Documentation/networking/ip-sysctl.rst). */
const SYSCTL = '/proc/sys/net/bridge/bridge-nf-call-iptables';
/** Names shown at most: a Kubernetes host has a bridge, a Docker host may have dozens. */
const SHOWN = 3;
/** A route that moves to a bridge without carrier is noticed after so long: nothing comes by that bridge meanwhile. */
const LINKS_MS = 10_000;

/**
 * INPUT where frames come by a bridge that shows them to iptables: not only those of servers, for any bridge may lead to clients,
 * as the containers of a Docker host that call a frontend do. Cheap: one small file, and where that is there one question to rtnetlink.
 * @param servers dotted IPv4; they tell whether a bridge without carrier (its containers are stopped) counts
 * @throws NativeAddonError, or the system's error where rtnetlink does not answer
 */
export function formNow(servers: Iterable<string>): Form {
  const sysctl = read(SYSCTL);
  if (sysctl === undefined) return { name: 'raw', why: 'no br_netfilter: bridged frames pass no iptables' };
  const socket = open();
  try {
    return judge(sysctl === '1', socket.interfaces(), ({ index }) => linksTo(servers, socket).has(index));
  } finally {
    socket.close();
  }
}

/** `isUsed` is asked only about bridges without carrier. */
function judge(all: boolean, links: readonly Interface[], isUsed: (link: Interface) => boolean): Form {
  const bridges = links.filter(({ kind }) => kind === 'bridge');
  const showing = bridges.filter((bridge) => (all || bridge.callsIptables) && (bridge.carrier || isUsed(bridge)));
  const names = listed(showing.map(({ name }) => name));
  const cause = all ? 'net.bridge.bridge-nf-call-iptables = 1' : 'nf_call_iptables of the bridge is 1';
  if (showing.length > 0) return { name: 'input', why: `frames of ${names} pass iptables before the bridge hands them up: ${cause}` };
  if (bridges.length === 0) return { name: 'raw', why: 'there is no bridge here' };
  const rest = listed(bridges.map(({ name }) => name));
  return { name: 'raw', why: all ? `no frames come by ${rest}: no carrier, and no server behind` : `frames of ${rest} pass no iptables` };
}

/** By the servers they lead to. Two questions to the kernel a server: with thousands they are not asked each second. */
let links: { readonly servers: string; readonly until: number; readonly indexes: ReadonlySet<number> } | undefined;

function linksTo(servers: Iterable<string>, socket: RouteSocket): ReadonlySet<number> {
  const all = [...servers];
  const key = all.join();
  const now = performance.now();
  if (links?.servers !== key || now >= links.until)
    links = { servers: key, until: now + LINKS_MS, indexes: new Set(all.map((server) => linkTo(server, socket))) };
  return links.indexes;
}

function linkTo(server: string, socket: RouteSocket): number {
  try {
    return socket.route(parseAddress(server), 0, 0, 0).ifindex;
  } catch {
    return -1; // no way there, whatever the reason
  }
}

/** Names hold anything but blanks and slashes (netdevice(7)); in the script goes only what means nothing to sh. */
function listed(names: readonly string[]): string {
  const shown = names.slice(0, SHOWN).map((name) => name.replaceAll(/[^\w.:=-]/g, '_'));
  return shown.join(', ') + (names.length > SHOWN ? ` and ${names.length - SHOWN} more` : '');
}

function open(): RouteSocket {
  try {
    return new (native().RouteSocket)();
  } catch (error) {
    throw addonError(error) ?? error;
  }
}
