/**
 * Which of this host's addresses connections to servers leave from: the one that the client called, or those that the backend names
 * (`source_addrs`), each of which has ports of its own towards every server. All in native order.
 */
import type { ServiceSet } from './service-set.ts';

type Backend = Pick<ServiceSet['backends'][number], 'sources'>;

/** Those of a frontend's new connections, at least one. */
export function sourcesOf(frontend: number, backend: Backend | undefined): readonly number[] {
  const named = backend?.sources ?? [];
  return named.length > 0 ? named : [frontend];
}

/** Those that new connections may leave from, whichever their frontend. */
export function presentSources({ frontends, backends }: ServiceSet): Set<number> {
  return new Set([...frontends.map(({ address }) => address), ...backends.flatMap(({ sources }) => sources ?? [])]);
}

/** Those that servers may send answers to: old connections stay with theirs. */
export function allSources(set: ServiceSet): Set<number> {
  return new Set([...presentSources(set), ...(set.formerSources ?? [])]);
}
