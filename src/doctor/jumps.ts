/** Chains of others that are asked before lb4's rules: the rules script looks at the rules beside its own only. */

/**
 * Jumps above lb4's last rule in `chain` to chains that let packets pass, in themselves or further on: what they accept reaches the
 * kernel, which resets the connection. Each as the rule's text.
 * @param saved what iptables-save says of one table
 */
export function acceptingJumps(saved: string, chain: string): string[] {
  const rules = saved.split('\n').filter((line) => line.startsWith('-A '));
  const own = rules.filter((rule) => chainOf(rule) === chain);
  const last = own.findLastIndex((rule) => rule.includes(' --comment lb4 '));
  return own.slice(0, Math.max(last, 0)).filter((rule) => accepts(target(rule), rules, new Set([chain])));
}

function accepts(chain: string | undefined, rules: readonly string[], seen: Set<string>): boolean {
  if (chain === undefined || seen.has(chain)) return false;
  seen.add(chain);
  return rules.filter((rule) => chainOf(rule) === chain).some((rule) => target(rule) === 'ACCEPT' || accepts(target(rule), rules, seen));
}

function chainOf(rule: string): string | undefined {
  return rule.split(' ', 2)[1];
}

function target(rule: string): string | undefined {
  return / -[jg] (\S+)/.exec(rule)?.[1];
}
