/**
 * SipHash-2-4: Aumasson and Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012, section 2. Its 64-bit words are two halves of 32
 * bits here. Keys, messages and digests are little-endian words: on the machines that lb4 runs on, an Int32Array over their bytes.
 */

/** v0 to v3 of the paper, low half first. Its own for each thread, so that no call allocates. */
const state = new Int32Array(8);

/**
 * The digest of `length` bytes of `message` under `key` (four words): its low half to `digest[0]`, its high half to `digest[1]`.
 * @param message words whose bytes from `length` on are 0
 * @param length below 256
 */
export function sipHash(key: Int32Array, message: Int32Array, length: number, digest: Int32Array): void {
  state[0] = key[0] ^ 0x70736575;
  state[1] = key[1] ^ 0x736f6d65;
  state[2] = key[2] ^ 0x6e646f6d;
  state[3] = key[3] ^ 0x646f7261;
  state[4] = key[0] ^ 0x6e657261;
  state[5] = key[1] ^ 0x6c796765;
  state[6] = key[2] ^ 0x79746573;
  state[7] = key[3] ^ 0x74656462;
  const whole = length >>> 3;
  for (let i = 0; i < whole; i++) compress(message[2 * i], message[2 * i + 1]);
  const rest = (length & 7) + 3;
  compress(rest > 3 ? message[2 * whole] : 0, (rest > 7 ? message[2 * whole + 1] : 0) | (length << 24));
  state[4] ^= 0xff;
  rounds(4);
  digest[0] = state[0] ^ state[2] ^ state[4] ^ state[6];
  digest[1] = state[1] ^ state[3] ^ state[5] ^ state[7];
}

/** A key of 32 hexadecimal digits. */
export function sipKey(digits: string): Int32Array {
  const bytes = Uint8Array.from({ length: 16 }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
  return new Int32Array(bytes.buffer);
}

function compress(low: number, high: number): void {
  state[6] ^= low;
  state[7] ^= high;
  rounds(2);
  state[0] ^= low;
  state[1] ^= high;
}

/** SipRound, `count` times; in locals, which is twice as fast as in the array. */
function rounds(count: number): void {
  let a = state[0];
  let A = state[1];
  let b = state[2];
  let B = state[3];
  let c = state[4];
  let C = state[5];
  let d = state[6];
  let D = state[7];
  let t = 0;
  for (let i = 0; i < count; i++) {
    // A capital is the high half. A low sum below one of its parts has overflowed.
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
  state[0] = a;
  state[1] = A;
  state[2] = b;
  state[3] = B;
  state[4] = c;
  state[5] = C;
  state[6] = d;
  state[7] = D;
}
