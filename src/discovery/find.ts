import type { Finder } from '../config/model.ts';
import type { Answer } from './answer.ts';
import { type DnsOptions, findName, findService } from './dns.ts';
import { findByProgram } from './exec.ts';

/** Asks once. Rejects where there is no answer. */
export function find(finder: Finder, options: DnsOptions, signal: AbortSignal): Promise<Answer> {
  switch (finder.kind) {
    case 'name':
      return findName(finder.host, finder.port, options);
    case 'srv':
      return findService(finder.name, options);
    case 'exec':
      return findByProgram(finder.command, finder.intervalMs, signal);
  }
}

/** What it is, for people; finders of the same words are the same. */
export function describe(finder: Finder): string {
  if (finder.kind === 'name') return `${finder.host}:${finder.port}`;
  return finder.kind === 'srv' ? finder.name : finder.command.join(' ');
}
