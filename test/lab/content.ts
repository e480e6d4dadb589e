/** Content of any length that both ends can make for themselves: the AES-CTR key stream of a fixed key. */
import { createCipheriv, createHash } from 'node:crypto';
import { Readable } from 'node:stream';

const CHUNK = 256 * 1024;

function* chunks(bytes: number): Generator<Buffer> {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, 4), Buffer.alloc(16));
  const zeros = Buffer.alloc(CHUNK);
  for (let left = bytes; left > 0; left -= CHUNK) yield cipher.update(left < CHUNK ? zeros.subarray(0, left) : zeros);
}

export function content(bytes: number): Readable {
  return Readable.from(chunks(bytes));
}

/** SHA-256 of that content, in hexadecimal. */
export function contentHash(bytes: number): string {
  const hash = createHash('sha256');
  for (const chunk of chunks(bytes)) hash.update(chunk);
  return hash.digest('hex');
}
