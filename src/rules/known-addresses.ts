/** The addresses that the program of servers behind `dsr = "gue"` knows, as it looks them up (`is_known` in native/bpf/gue.h). */
import { isIPv4 } from 'node:net';
import { addressBytes } from '../ip.ts';

/** KNOWN_BITS and KNOWN_PROBES there: all that a file may hold fits. */
const BITS = 13;
const PROBES = 128;
const PLACES = 2 ** BITS;
const PLACE_BYTES = 16;
const WORDS = [0, 4, 8, 12];
/** With so many addresses no seed is to be expected that finds everyone a place in PROBES. */
const MOST = PLACES * 0.7;
const SEEDS = 100;
const MULTIPLIER = 0x9e3779b1;
const EMPTY = Buffer.alloc(PLACE_BYTES);
/** In front of an address of IPv4, and of a server that may be asked next: OTHER_WORD there. */
const FOR_IPV4 = Buffer.from('ffffffffffffffff00000000', 'hex');
const FOR_HOPS = Buffer.alloc(12, 0xff);

export interface KnownAddresses {
  readonly seed: number;
  /** All places, 16 bytes each; one of zeros is empty. */
  readonly places: Buffer;
}

/**
 * @param vips of either family
 * @param hops IPv4 addresses of servers that may be asked next
 * @throws RangeError where they are more than a file of lb4's may hold
 */
export function knownAddresses(vips: readonly string[], hops: readonly string[]): KnownAddresses {
  const keys = [
    ...vips.map((vip) => (isIPv4(vip) ? Buffer.concat([FOR_IPV4, addressBytes(vip)]) : addressBytes(vip))),
    ...hops.map((hop) => Buffer.concat([FOR_HOPS, addressBytes(hop)])),
  ];
  if (keys.length > MOST) throw new RangeError(`${keys.length} addresses are too many for the program of servers behind GUE`);
  for (let seed = 1; seed <= SEEDS; seed++) {
    const places = placed(keys, seed);
    if (places !== undefined) return { seed, places };
  }
  throw new RangeError(`${keys.length} addresses find no place in the program of servers behind GUE`);
}

/** Undefined: one is too far from its home. */
function placed(keys: readonly Buffer[], seed: number): Buffer | undefined {
  const places = Buffer.alloc(PLACES * PLACE_BYTES);
  for (const key of keys) {
    const home = homeOf(key, seed);
    const probes = Array.from({ length: PROBES }, (_, probe) => ((home + probe) % PLACES) * PLACE_BYTES);
    const free = probes.find((at) => isAt(places, at, EMPTY) || isAt(places, at, key));
    if (free === undefined) return undefined;
    key.copy(places, free);
  }
  return places;
}

function isAt(places: Buffer, at: number, key: Buffer): boolean {
  return WORDS.every((word) => places.readUInt32LE(at + word) === key.readUInt32LE(word));
}

function homeOf(key: Buffer, seed: number): number {
  const hash = WORDS.reduce((sum, word) => {
    const product = Math.imul(sum ^ key.readUInt32LE(word), MULTIPLIER);
    return product ^ (product >>> 15);
  }, seed);
  return hash & (PLACES - 1);
}
