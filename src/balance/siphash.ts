/**
 * SipHash-2-4: Aumasson and Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012, section 2. Its 64-bit words are two halves of 32
 * bits here. Keys, messages and digests are little-endian words: on the machines that lb4 runs on, an Int32Array over their bytes.
 */

/**
 * The digest of `length` bytes of `message` under `key` (four words): its low half to `digest[0]`, its high half to `digest[1]`. Nothing is allocated.
 * @param message words whose bytes from `length` on are 0
 * @param length below 256
 */
export function sipHash(key: Int32Array, message: Int32Array, length: number, digest: Int32Array): void {
  // v0 to v3 of the paper are a to d, a capital the high half. In locals and one function: it runs for each packet of a table's.
  let a = key[0] ^ 0x70736575;
  let A = key[1] ^ 0x736f6d65;
  let b = key[2] ^ 0x6e646f6d;
  let B = key[3] ^ 0x646f7261;
  let c = key[0] ^ 0x6e657261;
  let C = key[1] ^ 0x6c796765;
  let d = key[2] ^ 0x79746573;
  let D = key[3] ^ 0x74656462;
  let t = 0;
  const last = length >>> 3;
  const rest = length & 7;
  // All whole words, the last one with the length on top, and the end.
  for (let block = 0; block <= last + 1; block++) {
    let low = 0;
    let high = 0;
    let rounds = 2;
    if (block < last) {
      low = message[2 * block];
      high = message[2 * block + 1];
    } else if (block === last) {
      if (rest > 0) low = message[2 * block];
      if (rest > 4) high = message[2 * block + 1];
      high |= length << 24;
    } else {
      c ^= 0xff;
      rounds = 4;
    }
    d ^= low;
    D ^= high;
    for (; rounds > 0; rounds--) {
      // A low sum below one of its parts has overflowed.
      a = (a + b) | 0;
      A = (A + B + (a >>> 0 < b >>> 0 ? 1 : 0)) | 0;
      t = (b << 13) | (B >>> 19);
      B = ((B << 13) | (b >>> 19)) ^ A;
      b = t ^ a;
      t = a;
      a = A;
      A = t;
      c = (c + d) | 0;
      C = (C + D + (c >>> 0 < d >>> 0 ? 1 : 0)) | 0;
      t = (d << 16) | (D >>> 16);
      D = ((D << 16) | (d >>> 16)) ^ C;
      d = t ^ c;
      a = (a + d) | 0;
      A = (A + D + (a >>> 0 < d >>> 0 ? 1 : 0)) | 0;
      t = (d << 21) | (D >>> 11);
      D = ((D << 21) | (d >>> 11)) ^ A;
      d = t ^ a;
      c = (c + b) | 0;
      C = (C + B + (c >>> 0 < b >>> 0 ? 1 : 0)) | 0;
      t = (b << 17) | (B >>> 15);
      B = ((B << 17) | (b >>> 15)) ^ C;
      b = t ^ c;
      t = c;
      c = C;
      C = t;
    }
    a ^= low;
    A ^= high;
  }
  digest[0] = a ^ b ^ c ^ d;
  digest[1] = A ^ B ^ C ^ D;
}

/** A key of 32 hexadecimal digits. */
export function sipKey(digits: string): Int32Array {
  const bytes = Uint8Array.from({ length: 16 }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
  return new Int32Array(bytes.buffer);
}
