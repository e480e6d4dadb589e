/** What a rules script's `status` says, a line a piece: `present RULE`, `missing reserved ports 33768-61000`, `shadowed by RULE` … */

export interface Piece {
  readonly state: 'present' | 'missing' | 'stale' | 'shadowed';
  /** The reserved ports and nft's table count as one each. */
  readonly kind: 'rule' | 'ports' | 'table';
  /** What follows the state. */
  readonly text: string;
}

const LINE = /^(present|missing|stale|shadowed) (?:(reserved ports )|(nft table ))?.*$/gm;

/** In the script's order; other lines, such as that of the form, are left out. */
export function piecesOf(output: string): Piece[] {
  return [...output.matchAll(LINE)].map(([line, state = '', ports, table]) => {
    const kind = ports === undefined ? (table === undefined ? 'rule' : 'table') : 'ports';
    return { state: state as Piece['state'], kind, text: line.slice(state.length + 1) };
  });
}

/** A rule without its comment and target, which all of lb4's have. */
export function plain(rule: string): string {
  return rule.replace(/ -m comment .*/, '');
}
