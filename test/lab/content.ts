/** Content of any length that both ends can make for themselves: the AES-CTR key stream of a fixed key. */
import { createCipheriv, createHash } from 'node:crypto';
import { Readable } from 'node:stream';

const CHUNK = 256 * 1024;

function* chunks(bytes: number, piece = CHUNK): Generator<Buffer> {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, 4), Buffer.alloc(16));
  const zeros = Buffer.alloc(piece);
  for (let left = bytes; left > 0; left -= piece) yield cipher.update(left < piece ? zeros.subarray(0, left) : zeros);
}

/** In pieces of so many bytes. */
export function content(bytes: number, piece?: number): Readable {
  return Readable.from(chunks(bytes, piece));
}

/** SHA-256 of that content, in hexadecimal. */
export function contentHash(bytes: number): string {
  const hash = createHash('sha256');
  for (const chunk of chunks(bytes)) hash.update(chunk);
  return hash.digest('hex');
}
