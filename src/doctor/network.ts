/** Interfaces, routes and neighbours, as the addon's RouteSocket tells them: the doctor's one door to the addon. */
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { Config } from '../config/model.ts';
import { sourcesOf } from '../config/sources.ts';
import { interfacesNow } from '../io/interfaces.ts';
import { native, type Route } from '../io/native.ts';
import { formatBytes } from '../ip.ts';
import { formatAddress, parseAddress } from '../packet/address.ts';
import { ask } from '../rules/saved.ts';

export interface Link {
  readonly name: string;
  /** "bridge", "veth", "bond" …; undefined for plain hardware, or without iproute2. */
  readonly kind: string | undefined;
  /** Set up, by `ip link set … up`. */
  readonly up: boolean;
  /** The other end is there and up, too. */
  readonly carrier: boolean;
}

/** How this host would reach a server. */
export interface ServerPath {
  readonly address: string;
  readonly port: number;
  /** What the kernel does with a packet there. */
  readonly kind: Route['kind'];
  /** The interface; undefined: no route, or one that leads nowhere. */
  readonly link: string | undefined;
  /** The address to ask ARP for: the server's own, or a gateway's. */
  readonly neighbour: string;
  /** False: ARP got no answer; undefined: this link needs none. */
  readonly resolved: boolean | undefined;
  /** It is an address of this host. */
  readonly local: boolean;
  /** What the kernel would send from. */
  readonly source: string;
  /** Bytes of the largest packet that it lets through there, whatever ICMP errors have made the kernel believe. */
  readonly mtu: number;
}

/** Every interface of this host. */
export const linksNow = interfacesNow;

/** How long a server gets to answer, so that its neighbour is known. */
const PATIENCE_MS = 1000;

/** Of servers that have none: pings. Any does, for the neighbour is asked for first. */
const ANY_PORT = 7;

/** Throws what keeps the addon from loading. */
export function loadAddon(): void {
  native();
}

/** Opens a packet socket, with the smallest ring, and closes it; throws what the system says. */
export function tryPacketSocket(): void {
  const returnNothing = new Uint32Array([0x06, 0]);
  new (native().PacketSocket)({ slots: 1, filter: returnNothing }).close();
}

/** The processors that threads of this process can be pinned to. */
export function usableCpus(): number[] {
  return native().usableCpus();
}

/** The interface that carries each of this host's addresses; without iproute2, of those that are up. */
export async function ownAddresses(): Promise<Map<string, string>> {
  const told = await ask('ip', '-j', 'address', 'show');
  if (told === undefined)
    return new Map(
      Object.entries(networkInterfaces()).flatMap(([name, all]) => (all ?? []).map(({ address }) => [address, name] as const)),
    );
  const links = JSON.parse(told) as { ifname?: string; addr_info?: { local?: string }[] }[];
  return new Map(links.flatMap(({ ifname = '', addr_info = [] }) => addr_info.map(({ local = '' }) => [local, ifname] as const)));
}

/** IPv4 servers, those of several backends once each; a server that does not answer costs a second, all of them at once. */
export async function serverPaths(config: Config): Promise<ServerPath[]> {
  const all = config.backends.flatMap(({ servers, protocol }) => servers.map(({ addr }) => ({ ...addr, protocol: protocol.number })));
  const ours = all.filter(({ family }) => family === 4).map((server) => [server.ip, server] as const);
  const servers = [...new Map(ours).values()];
  await Promise.all(servers.map(({ ip, port }) => connectError(ip, port || ANY_PORT)));
  const socket = new (native().RouteSocket)();
  try {
    const links = new Map(socket.interfaces().map((link) => [link.index, link]));
    return servers.map(({ ip: address, port, protocol }) => {
      const route = socket.route(parseAddress(address), 0, port, protocol);
      const link = links.get(route.ifindex);
      const asks = link !== undefined && link.mac.length === 6 && !route.local;
      return {
        address,
        port,
        kind: route.kind,
        link: link?.name,
        neighbour: toText(route.neighbour),
        resolved: asks ? socket.neighbour(route.ifindex, route.neighbour) !== undefined : undefined,
        local: route.local,
        source: formatAddress(route.source),
        mtu: route.ownMtu || (link?.mtu ?? 0),
      };
    });
  } finally {
    socket.close();
  }
}

/** Makes the kernel resolve the neighbour; whether the server accepts is the health check's business. The error's code, if any. */
export function connectError(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (error?: NodeJS.ErrnoException) => {
      socket.destroy();
      resolve(error?.code);
    };
    socket
      .setTimeout(PATIENCE_MS, () => end())
      .once('connect', () => end())
      .once('error', end);
  });
}

/** The interfaces of these names. */
export async function describeLinks(names: Iterable<string>): Promise<Link[]> {
  const all = interfacesNow();
  const details = JSON.parse((await ask('ip', '-d', '-j', 'link', 'show')) ?? '[]') as {
    ifname?: string;
    linkinfo?: { info_kind?: string };
  }[];
  return [...new Set(names)].map((name) => {
    const { up = false, carrier = false } = all.find((link) => link.name === name) ?? {};
    return { name, kind: details.find(({ ifname }) => ifname === name)?.linkinfo?.info_kind, up, carrier };
  });
}

/** As the addon gives neighbours: network bytes in native order for IPv4, 16 bytes for IPv6. */
function toText(address: number | Uint8Array): string {
  return typeof address === 'number' ? formatAddress(address) : formatBytes(address);
}

/** What the kernel does with a packet to a server, from an address that servers see. */
export interface Way {
  readonly source: string;
  readonly server: string;
  readonly kind: Route['kind'];
}

/** The ways from each frontend's address, or its backend's source addresses, to its servers, each once: rules by source address, or port, may lead elsewhere, or nowhere. */
export function waysOf({ frontends }: Config): Way[] {
  const pairs = frontends.flatMap((frontend) => {
    const { servers, protocol } = frontend.backend;
    return servers.flatMap(({ addr }) => sourcesOf(frontend).map((source) => [source, addr.ip, addr.port, protocol.number] as const));
  });
  const socket = new (native().RouteSocket)();
  try {
    const asked = [...new Map(pairs.map((pair) => [pair.join(' '), pair])).values()].map(([source, server, port, protocol]) => {
      return { source, server, kind: socket.route(parseAddress(server), parseAddress(source), port, protocol).kind };
    });
    return [...new Map(asked.map((way) => [Object.values(way).join(' '), way])).values()];
  } finally {
    socket.close();
  }
}
