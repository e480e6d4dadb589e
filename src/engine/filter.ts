/** From services to the in-kernel filter; made on the main thread, where 1,000 servers hold up no packet. */
import { byNumber, protocols } from '../flow/protocols.ts';
import type { Endpoint } from '../forward/endpoints.ts';
import type { Mode } from '../forward/mode.ts';
import { modes } from '../forward/modes.ts';
import type { ServiceSet } from '../forward/service-set.ts';
import { allSources } from '../forward/sources.ts';
import { coarseFilter, type Echo, type FilterSpec, packetFilter } from '../io/filter.ts';
import { CLIENT_PORTS } from '../layout/ports.ts';
import { swap32 } from '../packet/address.ts';
import { ICMP } from '../packet/fields.ts';
import type { Ours } from '../packet/steering.ts';

/** The classic BPF program that hands up what `set` balances. */
export function filterFor(set: ServiceSet): Uint32Array {
  return packetFilter(filterSpec(set));
}

/** Which packets are needed to balance `set`. */
export function filterSpec(set: ServiceSet): FilterSpec {
  const echo = echoIn(set);
  return {
    frontends: set.frontends.filter(hasPorts).map(listener),
    // Those that see their clients are reached by full NAT as well, by each other.
    servers: serversWhose(set, 'us', 'client').filter(hasPorts).map(listener),
    returning: serversWhose(set, 'client').filter(hasPorts).map(listener),
    ...(echo === undefined ? {} : { echo }),
    sources: [...allSources(set)].map(hostOrder),
    firstPort: CLIENT_PORTS.first,
    lastPort: CLIENT_PORTS.last,
  };
}

/** What several workers' frames are steered by beside their ports; undefined: nothing, since no server answers clients through this host. */
export function oursIn(set: ServiceSet): Ours | undefined {
  if (!set.backends.some(({ mode }) => modes[mode].repliesTo === 'client')) return undefined;
  return allSources(set);
}

/** One that hands up whatever is of a protocol that lb4 carries. */
export function coarseFilterForAll(): Uint32Array {
  return coarseFilter(
    protocols.filter((protocol) => protocol.hasPorts).map(({ number }) => number),
    byNumber[ICMP] !== undefined,
  );
}

/** Undefined where nobody pings or is pinged by way of lb4. */
function echoIn(set: ServiceSet): Echo | undefined {
  const pinged = set.frontends.filter((one) => one.echo === true || one.protocol === ICMP);
  const servers = (...kinds: Mode['repliesTo'][]) => [
    ...new Set(
      serversWhose(set, ...kinds)
        .filter((one) => one.protocol === ICMP)
        .map(({ address }) => hostOrder(address)),
    ),
  ];
  if (pinged.length === 0) return undefined;
  return {
    addresses: [...new Set(pinged.map(({ address }) => hostOrder(address)))],
    servers: servers('us', 'client'),
    returning: servers('client'),
  };
}

function serversWhose({ backends }: ServiceSet, ...kinds: readonly Mode['repliesTo'][]): Endpoint[] {
  return backends.filter(({ mode }) => kinds.includes(modes[mode].repliesTo)).flatMap(({ servers }) => servers);
}

function hasPorts({ protocol }: Endpoint): boolean {
  return byNumber[protocol]?.hasPorts === true;
}

function listener({ address, port, protocol }: Endpoint) {
  return { address: hostOrder(address), port, protocol };
}

function hostOrder(address: number): number {
  return swap32(address) >>> 0;
}
