/** `bind [ADDRESS]:PORT[, …] [PARAMETERS]` (section 4.2, 5.1). */
import type { Draft, Line } from './draft.ts';
import { FROM_ENVIRONMENT, isFromEnvironment, numberOf, whyUnread } from './haproxy-words.ts';

export interface Bind {
  readonly listen: string;
  readonly acceptProxy: boolean;
  readonly maxconn: number | undefined;
  readonly from: Line;
}

/** Parameters with a word behind them. */
const WITH_WORD = new Set(
  'alpn backlog ca-file ca-verify-file ciphers ciphersuites crl-file crt crt-list curves ecdhe gid group id interface level maxconn mode mss name namespace nice npn process proto severity-output shards sigalgs ssl-max-ver ssl-min-ver tcp-ut thread tls-ticket-keys uid user verify'.split(
    ' ',
  ),
);

/** @param words without `bind` */
export function bindsOf(line: Line, words: readonly string[], draft: Draft): Bind[] {
  const [addresses = '', ...parameters] = words;
  const given = parametersOf(parameters);
  if (given.has('ssl')) {
    draft.lose(line, 'lb4 does not end TLS: it passes it on as it is');
    return [];
  }
  for (const [name, word] of given)
    if (!['accept-proxy', 'maxconn', 'v4v6', 'v6only'].includes(name)) {
      draft.lose(line, 'lb4 has nothing like it', `bind … ${word === undefined ? name : `${name} ${word}`}`);
    }
  const maxconn = numberOf(given.get('maxconn'));
  if (given.has('maxconn') && maxconn === undefined) {
    draft.lose(line, whyUnread(given.get('maxconn')), `bind … maxconn ${given.get('maxconn') ?? ''}`.trim());
  }
  return addresses.split(',').flatMap((address) => {
    const listens = listenOf(address, given.has('v4v6'));
    if (listens.length === 0) draft.lose(line, isFromEnvironment(address) ? FROM_ENVIRONMENT : 'is no address and port', `bind ${address}`);
    const facts = { acceptProxy: given.has('accept-proxy'), maxconn, from: line };
    return listens.map((listen): Bind => ({ listen, ...facts }));
  });
}

function parametersOf(words: readonly string[]): Map<string, string | undefined> {
  const given = new Map<string, string | undefined>();
  for (let i = 0; i < words.length; i++) {
    const name = words[i] ?? '';
    given.set(name, WITH_WORD.has(name) ? words[++i] : undefined);
  }
  return given;
}

/** What lb4 listens on; none for what has no address and port: sockets, descriptors, ranges of ports. */
function listenOf(text: string, alsoIpv4: boolean): string[] {
  const [, family, rest = ''] = /^(?:(ipv[46])@)?(.*)$/.exec(text) ?? [];
  const [, host, port] = /^(.*):(\d+)$/.exec(rest) ?? [];
  if (host === undefined || port === undefined || /[@/$]/.test(host)) return [];
  if (host === '' || host === '*') return [family === 'ipv6' ? `[::]:${port}` : `0.0.0.0:${port}`];
  const bare = host.replace(/^\[(.*)\]$/, '$1');
  if (!bare.includes(':')) return [`${bare}:${port}`];
  return [`[${bare}]:${port}`, ...(bare === '::' && alsoIpv4 ? [`0.0.0.0:${port}`] : [])];
}
