/** From services to the in-kernel filter; made on the main thread, where 1,000 servers hold up no packet. */
import { protocols } from '../flow/protocols.ts';
import type { Endpoint } from '../forward/endpoints.ts';
import { modes } from '../forward/modes.ts';
import type { ServiceSet } from '../forward/service-set.ts';
import { allSources } from '../forward/sources.ts';
import { coarseFilter, type FilterSpec, packetFilter } from '../io/filter.ts';
import { CLIENT_PORTS } from '../layout/ports.ts';
import { swap32 } from '../packet/address.ts';

/** The classic BPF program that hands up what `set` balances. */
export function filterFor(set: ServiceSet): Uint32Array {
  return packetFilter(filterSpec(set));
}

/** Which packets are needed to balance `set`. */
export function filterSpec(set: ServiceSet): FilterSpec {
  const { frontends, backends } = set;
  const hostOrder = ({ address, port, protocol }: Endpoint) => ({ address: swap32(address) >>> 0, port, protocol });
  return {
    frontends: frontends.map(hostOrder),
    // Only with full NAT do replies come back here.
    servers: backends.filter(({ mode }) => modes[mode].directions === 2).flatMap((backend) => backend.servers.map(hostOrder)),
    sources: [...allSources(set)].map((address) => swap32(address) >>> 0),
    firstPort: CLIENT_PORTS.first,
    lastPort: CLIENT_PORTS.last,
  };
}

/** One that hands up whatever is of a protocol that lb4 carries. */
export function coarseFilterForAll(): Uint32Array {
  return coarseFilter(protocols.map(({ number }) => number));
}
