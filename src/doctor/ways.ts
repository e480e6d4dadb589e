import { type Finding, fail, type Host } from './finding.ts';
import { type Way, waysOf } from './network.ts';

/** Kinds of routes that lead nowhere, in words. */
export const NOWHERE: Partial<Record<Way['kind'], string>> = {
  none: 'there is no route',
  blackhole: 'a blackhole route throws the packets away',
  prohibit: 'a prohibit route refuses the packets',
  unreachable: 'an unreachable route refuses the packets',
  broadcast: 'it is a broadcast address',
  multicast: 'it is a multicast address',
};

/**
 * The packet modes send to a server as the kernel would from the frontend's address, or the backend's source addresses. Told where a rule by source leads nowhere; that
 * no route leads there at all is told by routes.ts.
 */
export function ways({ config, paths }: Host): Finding[] {
  const routed = new Set(paths.filter(({ link }) => link !== undefined).map(({ address }) => address));
  return waysOf(config).flatMap(({ source, server, kind }) => {
    const words = NOWHERE[kind];
    if (words === undefined || !routed.has(server)) return [];
    return [fail('route', `from ${source} to server ${server}: ${words}`, `ip route get ${server} from ${source}; ip rule show`)];
  });
}
