/** Addresses that two parts of a file claim. */
import { type Address, familyAndPort, isAny, joinPort } from '../address.ts';
import { error, type Finding, show } from './finding.ts';
import { type Place } from './places.ts';

/** A place of one protocol; of whichever, where it names none. */
type Claim = Place & { readonly protocol?: string };

/** One finding for each address that an earlier one already covers. Takes time in proportion to the places, not to their pairs. */
export function clashes(places: readonly Claim[]): Finding[] {
  /** The first place of every key, by its number. */
  const firsts = new Map<string, number>();
  return places.flatMap(({ address, node, path, protocol = '' }, index) => {
    const taker = Math.min(...rivals(address).map((key) => firsts.get(protocol + key) ?? index));
    for (const key of [address.text, familyAndPort(address)]) if (!firsts.has(protocol + key)) firsts.set(protocol + key, index);
    if (taker === index) return [];
    const { owner, node: its } = places[taker];
    return [error(node, path, `${show(address.text)} is taken by ${owner}, line ${its.at.line}`)];
  });
}

/** What takes an address: itself or its family's any-address; for an any-address, every one of its family. */
function rivals(address: Address): string[] {
  const { text, family, port } = address;
  return isAny(address) ? [familyAndPort(address)] : [text, joinPort(family === 4 ? '0.0.0.0' : '::', port)];
}
