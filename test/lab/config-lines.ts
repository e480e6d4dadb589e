/** What lb4 has to say about a configuration, as lines. */
import { expect } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import type { Mode } from '../../src/config/modes.ts';
import { ConfigError, formatMistake } from '../../src/errors.ts';

/** A configuration and every line about it. */
export interface Row {
  readonly name: string;
  readonly toml: string;
  readonly lines: string[];
}

export const ADDRESS = 'an IPv4 or IPv6 address and a port, "192.0.2.1:80" or "[2001:db8::1]:80"';
export const SERVER_ADDRESS = `${ADDRESS}, or a name and a port, "app.internal:80"`;
export const WEIGHT = 'allowed: a whole number, 0–65535';
export const FRONTEND = 'frontends.a={listen_addr="192.0.2.1:80",backend="b"}';
export const BACKEND = 'backends.b.servers.s.addr="192.0.2.2:80"';
/** Two lines without a fault. */
export const GOOD = `${FRONTEND}\n${BACKEND}\n`;

/** Every line that lb4 has to say: errors and warnings. */
export function linesOf(load: () => { warnings: readonly Parameters<typeof formatMistake>[0][] }): string[] {
  try {
    return load().warnings.map(formatMistake);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    expect(error.exitCode).toBe(78);
    return error.message.split('\n');
  }
}

export function check(toml: string, mode?: Mode): string[] {
  return linesOf(() => parseConfig(toml, 'f', { mode }));
}
