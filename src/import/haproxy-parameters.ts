/** The parameters of `server` and `default-server` (section 5.2). */

import { lookUp } from '../look-up.ts';
import { numberOf, secondsOf, whyUnread } from './haproxy-words.ts';

/** Parameters with a word behind them, beside those of lb4. */
const WITH_WORD = new Set(
  'addr agent-addr agent-inter agent-port agent-send alpn ca-file check-alpn check-proto check-sni ciphers ciphersuites cookie crl-file crt curves downinter error-limit fall fastinter id init-addr inter log-bufsize log-proto max-reuse maxconn maxqueue minconn namespace npn observe on-error on-marked-down on-marked-up pool-low-conn pool-max-conn pool-purge-delay port proto proxy-v2-options redir resolve-net resolve-opts resolve-prefer resolvers rise shard sigalgs slowstart sni socks4 source ssl-max-ver ssl-min-ver tcp-ut track verify verifyhost weight ws'.split(
    ' ',
  ),
);

/** Those that say something of a server's table, or of its backend. */
const KNOWN = new Set(
  'weight maxconn backup check port inter rise fall slowstart send-proxy send-proxy-v2 disabled enabled check-send-proxy'.split(' '),
);

/** Those that `no-` undoes, whether they were given before or not. */
const UNDONE = new Set(
  'agent-check allow-0rtt backup check check-send-proxy check-ssl send-proxy send-proxy-v2 send-proxy-v2-ssl send-proxy-v2-ssl-cn ssl ssl-reuse tfo tls-tickets verifyhost'.split(
    ' ',
  ),
);

/** Later ones win. */
export function parametersOf(words: readonly string[]): Map<string, string | undefined> {
  const given = new Map<string, string | undefined>();
  for (let i = 0; i < words.length; i++) {
    const name = words[i] ?? '';
    const undone = name.startsWith('no-') ? name.slice(3) : '';
    if (given.delete(undone) || UNDONE.has(undone)) continue;
    if (name === 'enabled') given.delete('disabled');
    given.set(name, WITH_WORD.has(name) ? words[++i] : undefined);
  }
  return given;
}

/**
 * Where servers of a backend are checked; undefined: each at its own port. `several`: no one port that lb4 could have for all, which would find
 * those down that are checked at another.
 */
export function checkPort(servers: readonly ReadonlyMap<string, string | undefined>[]): number | 'several' | undefined {
  const [first, ...others] = new Set(servers.filter((one) => one.has('check')).map((one) => one.get('port')));
  if (others.length > 0) return 'several';
  return first === undefined ? undefined : (numberOf(first) ?? 'several');
}

const READ: Readonly<Record<string, (text: string | undefined) => number | undefined>> = {
  weight: numberOf,
  maxconn: numberOf,
  rise: numberOf,
  fall: numberOf,
  port: numberOf,
  inter: secondsOf,
  slowstart: secondsOf,
};

/** Those that say nothing to lb4, and those whose value it cannot read, each with the reason. */
export function lostIn(words: readonly string[]): { readonly text: string; readonly why: string }[] {
  return [...parametersOf(words)].flatMap(([word, argument]) => {
    const text = argument === undefined ? word : `${word} ${argument}`;
    if (!KNOWN.has(word)) return [{ text, why: 'lb4 has nothing like it' }];
    const read = lookUp(READ, word);
    return read !== undefined && read(argument) === undefined ? [{ text, why: whyUnread(argument) }] : [];
  });
}
