import { byNumber } from '../flow/protocols.ts';
import { MAX_FRONTENDS, MAX_SERVERS } from '../layout/counters.ts';
import { noRoom } from '../layout/limits.ts';
import { modes } from './modes.ts';
import type { ServiceSet } from './service-set.ts';

/**
 * Throws a RangeError where an index has no room (typed arrays would ignore it without a word), is given twice, or is chosen
 * though no server has it, where a frontend and its servers are not of one protocol that lb4 carries, and where a mode that keeps clients'
 * addresses is given others. For whoever makes a set: where packets wait it is too late.
 */
export function assertServiceSet({ frontends, backends }: ServiceSet): void {
  const servers = backends.flatMap((backend) => backend.servers);
  assertIndexes('frontend', frontends, MAX_FRONTENDS);
  assertIndexes('server', servers, MAX_SERVERS);
  for (const { name, mode, choice, servers: own, sources = [] } of backends) {
    if (sources.length > 0 && modes[mode].source !== 'pool')
      throw new RangeError(`backend ${name}: mode ${mode} takes no source addresses`);
    const known = new Set(own.map(({ index }) => index));
    const stranger = choice.candidates.find(({ index }) => !known.has(index));
    if (stranger) throw new RangeError(`backend ${name}: candidate ${stranger.name} has the index of no server, ${stranger.index}`);
    const protocols = new Set([...own, ...frontends.filter(({ backend }) => backend === name)].map(({ protocol }) => protocol));
    const strange = [...protocols].find((protocol) => protocols.size > 1 || byNumber[protocol] === undefined);
    if (strange !== undefined)
      throw new RangeError(`backend ${name}: protocol ${strange} is not that of all its servers and frontends, or unknown`);
  }
}

function assertIndexes(what: string, entries: readonly { readonly index: number }[], limit: number): void {
  const seen = new Set<number>();
  for (const { index } of entries) {
    if (!Number.isInteger(index) || index < 0 || index >= limit) throw new RangeError(`${what} ${index}: ${noRoom(what, limit)}`);
    if (seen.has(index)) throw new RangeError(`${what} ${index} is there twice`);
    seen.add(index);
  }
}
