/** The parameters of `server` and `default-server` (section 5.2). */

/** Parameters with a word behind them, beside those of lb4. */
const WITH_WORD = new Set(
  'addr agent-addr agent-inter agent-port agent-send alpn ca-file check-alpn check-proto check-sni ciphers ciphersuites cookie crl-file crt curves downinter error-limit fall fastinter id init-addr inter log-bufsize log-proto max-reuse maxconn maxqueue minconn namespace npn observe on-error on-marked-down on-marked-up pool-low-conn pool-max-conn pool-purge-delay port proto proxy-v2-options redir resolve-net resolve-opts resolve-prefer resolvers rise shard sigalgs slowstart sni socks4 source ssl-max-ver ssl-min-ver tcp-ut track verify verifyhost weight ws'.split(
    ' ',
  ),
);

/** Those that say something of a server's table, or of its backend. */
const KNOWN = new Set(
  'weight maxconn backup check inter rise fall slowstart send-proxy send-proxy-v2 disabled enabled check-send-proxy'.split(' '),
);

/** Later ones win. */
export function parametersOf(words: readonly string[]): Map<string, string | undefined> {
  const given = new Map<string, string | undefined>();
  for (let i = 0; i < words.length; i++) {
    const name = words[i] ?? '';
    if (name.startsWith('no-') && given.delete(name.slice(3))) continue;
    if (name === 'enabled') given.delete('disabled');
    given.set(name, WITH_WORD.has(name) ? words[++i] : undefined);
  }
  given.delete('no-check');
  return given;
}

/** Those that say nothing to lb4. */
export function strangersIn(words: readonly string[]): string[] {
  return [...parametersOf(words)]
    .filter(([word]) => !KNOWN.has(word))
    .map(([word, argument]) => (argument === undefined ? word : `${word} ${argument}`));
}
