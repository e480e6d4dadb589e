/** The interfaces that lb4 stands between: by name as the file has them, by index as they are now. */
import type { Ports, Prefix } from '../forward/crossing.ts';
import type { Interface } from '../io/native.ts';

export interface InlinePorts {
  /** On the side of the servers. */
  readonly backend: string;
  /** On the side of the clients; they keep their place. */
  readonly frontends: readonly { readonly name: string; readonly clients: readonly Prefix[] }[];
}

/** One that is down, or not there, has no index: nothing is sent by it. */
export function portsOf({ backend, frontends }: InlinePorts, interfaces: Iterable<Interface>): Ports {
  const byName = new Map([...interfaces].map((link) => [link.name, link]));
  const usable = (name: string) => {
    const link = byName.get(name);
    return link?.up === true ? link : undefined;
  };
  return {
    backend: usable(backend)?.index ?? 0,
    backendMtu: usable(backend)?.mtu ?? 0,
    frontends: frontends.map(({ name, clients }) => ({ name, ifindex: usable(name)?.index ?? 0, mtu: usable(name)?.mtu ?? 0, clients })),
  };
}

/** The backend's first, as the driver has them (io/driver.ts). */
export function indexesOf({ backend, frontends }: Ports): number[] {
  return [backend, ...frontends.map(({ ifindex }) => ifindex)];
}

/** Those of them at which the fast path may stand: all, but for one that stands between interfaces. */
export function among(interfaces: readonly Interface[], ports: InlinePorts | undefined): readonly Interface[] {
  if (ports === undefined) return interfaces;
  const names = new Set([ports.backend, ...ports.frontends.map(({ name }) => name)]);
  return interfaces.filter(({ name }) => names.has(name));
}
