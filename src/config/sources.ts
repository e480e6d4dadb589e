import type { Frontend } from './model.ts';

/**
 * The addresses of this host that servers of a packet mode see, where that is none of their clients': those that the backend names, else
 * the one that clients connect to. IPv4, at least one.
 */
export function sourcesOf({ listen, backend: { sourceAddrs } }: Pick<Frontend, 'listen' | 'backend'>): readonly string[] {
  return sourceAddrs.length > 0 ? sourceAddrs : [listen.ip];
}
