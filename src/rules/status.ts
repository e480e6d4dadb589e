/** What a rules script's `status` says, a line a piece: `present RULE`, `missing reserved ports 33768-61000`, `shadowed by RULE` … */

export interface Piece {
  /** Refused: this kernel cannot have it, and lb4 goes on without. */
  readonly state: 'present' | 'missing' | 'stale' | 'shadowed' | 'refused';
  /** The reserved ports and nft's table count as one each; the rule that has fragments put together drops nothing. */
  readonly kind: 'rule' | 'fragments' | 'ports' | 'table';
  /** What follows the state. */
  readonly text: string;
}

const LINE = /^(present|missing|stale|shadowed|refused) (reserved ports |nft table |-s \S+ -m socket\b)?.*$/gm;
const KINDS: Readonly<Record<string, Piece['kind']>> = { 'reserved ports ': 'ports', 'nft table ': 'table', '': 'rule' };

/** In the script's order; other lines, such as that of the form, are left out. */
export function piecesOf(output: string): Piece[] {
  return [...output.matchAll(LINE)].map(([line, state = '', start = '']) => {
    return { state: state as Piece['state'], kind: KINDS[start] ?? 'fragments', text: line.slice(state.length + 1) };
  });
}

/** A rule without its comment and target, which all of lb4's have. */
export function plain(rule: string): string {
  return rule.replace(/ -m comment .*/, '');
}
