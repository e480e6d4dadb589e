/** Who answers: many short connections, counted by server. */
import { expect } from 'vitest';
import type { Namespace } from './lab.ts';

export type Counts = Record<string, number>;

export function countBy(names: readonly string[]): Counts {
  const counts: Counts = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

/** The server of each of `count` connections, one after the other, to the HTTP port of `host`. Every one must be answered. */
export async function answers(client: Namespace, host: string, count: number): Promise<string[]> {
  const url = `http://${host}/?[1-${count}]`;
  const { code, stdout, stderr } = await client.run('curl', '-sS', '--max-time', '20', '-H', 'Connection: close', url);
  expect(code, stderr).toBe(0);
  return stdout.trim().split('\n');
}
