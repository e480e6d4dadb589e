/** An upload by curl, and what its server made of it. */
import { content } from './content.ts';
import type { Namespace } from './lab.ts';
import { PATIENCE } from './wait.ts';

/** @returns SHA-256 of what the server (backend.ts) has read, in hexadecimal */
export async function hashOfUpload(client: Namespace, url: string, bytes: number): Promise<string> {
  const curl = client.start(['curl', '-sS', '--max-time', '60', '-H', 'Expect:', '--data-binary', '@-', url]);
  await curl.feed(content(bytes));
  return curl.line(/^[0-9a-f]{64}$/, 2 * PATIENCE);
}
