/** Rules of the raw table, as iptables-save writes them, as far as they drop TCP. */

type Ports = readonly [first: number, last: number];

export interface DropRule {
  /** `PREROUTING -p tcp …`, to be given to `iptables -t raw -D`. */
  readonly text: string;
  /** lb4's own comment is on it. */
  readonly ours: boolean;
  /** ADDRESS/PREFIX; undefined: any. */
  readonly source: string | undefined;
  readonly destination: string | undefined;
  readonly sourcePorts: Ports;
  readonly destinationPorts: Ports;
}

/** One health check: a connection from `vip`, ports 32768–33767, to a server. */
export interface CheckedServer {
  readonly server: string;
  readonly port: number;
  readonly vip: string;
}

const ANY: Ports = [0, 65535];
const HEALTH_CHECKS: Ports = [32768, 33767];

/** A rule with matches that are not understood here (sets, interfaces, negations) is left out: it may well be tight. */
export function parseDropRules(saved: string): DropRule[] {
  return saved.split('\n').flatMap((line) => {
    const text = /^-A (PREROUTING .*-j DROP)$/.exec(line)?.[1];
    const rule = text === undefined ? undefined : parse(text);
    return rule === undefined ? [] : [rule];
  });
}

function parse(text: string): DropRule | undefined {
  // A comment may hold blanks, in quotes.
  const words = (text.match(/"[^"]*"|\S+/g) ?? []).slice(1);
  const options = new Map<string, string>();
  for (let at = 0; at < words.length; at += 2) options.set(words[at] as string, words[at + 1] ?? '');
  const known = ['-s', '-d', '-p', '-m', '--sport', '--dport', '--comment', '-j'];
  if ([...options.keys()].some((option) => !known.includes(option))) return undefined;
  if (options.has('-p') && options.get('-p') !== 'tcp') return undefined;
  return {
    text,
    ours: options.get('--comment') === 'lb4',
    source: options.get('-s'),
    destination: options.get('-d'),
    sourcePorts: ports(options.get('--sport')),
    destinationPorts: ports(options.get('--dport')),
  };
}

/** `80`, `32768:61000`. */
function ports(text: string | undefined): Ports {
  if (text === undefined) return ANY;
  const [first = 0, last = first] = text.split(':').map(Number);
  return [first, last];
}

/** Would the rule drop what that server answers to a health check? */
export function swallowsHealthChecks(rule: DropRule, { server, port, vip }: CheckedServer): boolean {
  const { source, destination, sourcePorts, destinationPorts } = rule;
  return (
    covers(source, server) &&
    covers(destination, vip) &&
    sourcePorts[0] <= port &&
    port <= sourcePorts[1] &&
    destinationPorts[0] <= HEALTH_CHECKS[1] &&
    HEALTH_CHECKS[0] <= destinationPorts[1]
  );
}

/** Is the address within ADDRESS/PREFIX? */
function covers(network: string | undefined, address: string): boolean {
  if (network === undefined) return true;
  const [base = '', prefix = '32'] = network.split('/');
  const shift = 32 - Number(prefix);
  return toNumber(base) >> BigInt(shift) === toNumber(address) >> BigInt(shift);
}

function toNumber(address: string): bigint {
  return address.split('.').reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}
