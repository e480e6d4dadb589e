/** Renders native/layout.h: what C, C++ and BPF know of the memory they share with TypeScript. */

import * as connection from './connection.ts';
import * as counters from './counters.ts';
import * as earlyDrop from './early-drop.ts';
import * as flow from './flow.ts';
import * as frames from './frames.ts';
import * as header from './header.ts';
import * as hops from './hops.ts';
import * as links from './links.ts';

const PARTS: readonly [prefix: string, file: string, names: Readonly<Record<string, unknown>>][] = [
  ['FRAME', 'frames.ts', frames],
  ['FLOW', 'flow.ts', flow],
  ['CONNECTION', 'connection.ts', connection],
  ['HOP', 'hops.ts', hops],
  ['LINK', 'links.ts', links],
  ['EARLY', 'early-drop.ts', earlyDrop],
  ['COUNTER', 'counters.ts', counters],
  ['HEADER', 'header.ts', header],
];

/** Every number that the files of this room export, with the file's prefix: plain C, so that BPF can include it. */
export function renderLayout(): string {
  const parts = PARTS.map(([prefix, file, names]) => {
    const numbers = Object.entries(names).filter((entry): entry is [string, number] => typeof entry[1] === 'number');
    return [`/* src/layout/${file} */`, 'enum {', ...numbers.map(([name, value]) => `  LB4_${prefix}_${name} = ${value},`), '};'].join(
      '\n',
    );
  });
  return `/* Rendered from src/layout by \`npm run docs\`: never edited. The files there say what each word means. */\n#pragma once\n\n${parts.join('\n\n')}\n`;
}
