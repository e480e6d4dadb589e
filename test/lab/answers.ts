/** Who answers: many short connections, counted by server. */
import { isDeepStrictEqual } from 'node:util';
import { expect } from 'vitest';
import type { Namespace } from './lab.ts';
import type { RunResult } from './processes.ts';
import { waitUntil } from './wait.ts';

/** What curl makes of a reset: during the handshake (as it looks: one that comes at once may be there by then), before an answer, in mid-answer. 28 would be its own patience. */
export const RESET = [7, 52, 55, 56];

export type Counts = Record<string, number>;

export function countBy(names: readonly string[]): Counts {
  const counts: Counts = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

/** The server of each of `count` connections, one after the other, to the HTTP port of `host`. Every one must be answered. */
export async function answers(client: Namespace, host: string, count: number): Promise<string[]> {
  const { code, stdout, stderr } = await ask(client, host, count);
  expect(code, stderr).toBe(0);
  return linesOf(stdout);
}

/** Waits until these servers (sorted), and no others, answer 20 connections: from a change of health to the next plan it takes a moment. */
export async function answeredBy(client: Namespace, host: string, ...servers: string[]): Promise<void> {
  let last: RunResult | undefined;
  const isSo = async () => {
    last = await ask(client, host, 20);
    return last.code === 0 && isDeepStrictEqual(Object.keys(countBy(linesOf(last.stdout))).sort(), servers);
  };
  try {
    await waitUntil(isSo, { what: `answers from ${servers.join(', ')}` });
  } catch (error) {
    throw new Error(`${String(error)}; the last were ${JSON.stringify(last)}`, { cause: error });
  }
}

function ask(client: Namespace, host: string, count: number): Promise<RunResult> {
  const first = client.ports(count);
  const one = (port: number) =>
    `silent\nshow-error\nmax-time = 20\nheader = "Connection: close"\nlocal-port = ${port}\nurl = http://${host}/\n`;
  return client.curl(Array.from({ length: count }, (_, index) => one(first + index)).join('next\n'));
}

function linesOf(text: string): string[] {
  return text.trim().split('\n');
}
