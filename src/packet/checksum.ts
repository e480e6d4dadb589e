/**
 * The Internet checksum (RFC 1071) and its incremental update (RFC 1624), in native byte order throughout: a one's
 * complement sum does not care which way round its 16-bit words are, as long as all of them are the same way
 * (RFC 1071 section 2(B)). No function here swaps a byte.
 */

/** Folds a sum of 16-bit words (below 2^32) to 16 bits with end-around carry. */
export function fold(sum: number): number {
  sum = (sum & 0xffff) + (sum >>> 16);
  return (sum & 0xffff) + (sum >>> 16);
}

/**
 * What replacing the 32-bit word `from` by `to` adds to a sum: ~m + m' of RFC 1624 equation 3, for both halves.
 * 0 … 0xffff; deltas of several words may be added and folded.
 */
export function delta(from: number, to: number): number {
  return fold((~from & 0xffff) + (~from >>> 16) + (to & 0xffff) + (to >>> 16));
}

/** RFC 1624 equation 3: the checksum after words changed by `change` (a delta, or a folded sum of them). */
export function update(checksum: number, change: number): number {
  return ~fold((~checksum & 0xffff) + change) & 0xffff;
}

/**
 * The folded sum of `length` bytes at the even byte offset `offset`; an odd last byte counts as padded with zero
 * (RFC 1071). Not complemented. For headers and short messages: payloads are never summed by the core.
 */
export function sum(bytes: Uint8Array, offset: number, length: number): number {
  let total = 0;
  const end = offset + (length & ~1);
  for (let i = offset; i < end; i += 2) total += bytes[i] | (bytes[i + 1] << 8);
  if (length & 1) total += bytes[end];
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 0x10000);
  return total;
}
