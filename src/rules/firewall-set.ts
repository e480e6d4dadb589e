/** A set of addresses in the host's nftables, whoever fills it. */
import { PrefixList } from '../access/prefix-list.ts';
import { readPrefix } from '../config/address.ts';
import { FailureError, KernelFeatureError } from '../errors.ts';
import { runReader } from './program.ts';

/** More in one set is refused, as prefixes: an interval may be several. */
const MOST_PREFIXES = 200_000;

/**
 * What is in it now: a process of nft, some milliseconds; for 100,000 addresses 1.4 s of a processor, and 0.4 s here. Undefined: there is no such set.
 * @param name "inet filter blocked": family, table, set
 * @throws an Lb4Error in one line where it cannot be read, or holds no IPv4 addresses
 */
export async function readFirewallSet(name: string): Promise<PrefixList | undefined> {
  const { status, stdout, stderr } = await read(name);
  if (status === 0) return addressesIn(stdout, name);
  if (stderr.includes('No such file or directory')) return undefined;
  throw new FailureError(`nft list set ${name}: ${stderr.trim().split('\n')[0] || `exit ${status}`}`);
}

async function read(name: string) {
  try {
    return await runReader('nft', ['-j', 'list', 'set', ...name.split(' ')]);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new KernelFeatureError('nft not found, which reads the sets of [passthrough] respect_firewall: apt-get install nftables');
  }
}

interface Part {
  readonly set?: { readonly type: unknown; readonly elem?: readonly unknown[] };
}

/** Of what `nft -j list set` prints (libnftables-json(5)). Throws FailureError. */
export function addressesIn(json: string, name: string): PrefixList {
  const set = (JSON.parse(json) as { nftables: readonly Part[] }).nftables.find((part) => part.set !== undefined)?.set;
  if (set?.type !== 'ipv4_addr') throw new FailureError(`the set ${name} is of type ${JSON.stringify(set?.type)}; needed: ipv4_addr`);
  const list = new PrefixList();
  for (const element of set.elem ?? []) {
    addElement(list, element, name);
    if (list.size > MOST_PREFIXES) throw new FailureError(`the set ${name} has more than ${MOST_PREFIXES} prefixes`);
  }
  return list;
}

/** An address, a prefix or an interval, or one of these with a timeout, comment or counter. */
function addElement(list: PrefixList, element: unknown, name: string): void {
  const { elem, prefix, range } = (typeof element === 'object' && element !== null ? element : {}) as {
    readonly elem?: { readonly val: unknown };
    readonly prefix?: { readonly addr: string; readonly len: number };
    readonly range?: readonly [string, string];
  };
  if (elem !== undefined) addElement(list, elem.val, name);
  else if (range !== undefined) addRange(list, ...(range.map((end) => prefixOf(end, name).first) as [number, number]));
  else {
    const { first, bits } = prefixOf(prefix === undefined ? element : `${prefix.addr}/${prefix.len}`, name);
    list.add(4, [first], bits);
  }
}

function prefixOf(text: unknown, name: string): { readonly first: number; readonly bits: number } {
  const read = typeof text === 'string' ? readPrefix(text) : undefined;
  const [first] = read !== undefined && !('problem' in read) && read.family === 4 ? read.first : [];
  if (read !== undefined && 'bits' in read && first !== undefined) return { first, bits: read.bits };
  throw new FailureError(`the set ${name} has ${JSON.stringify(text).slice(0, 60)}, which is no IPv4 address`);
}

/** As few prefixes as make it up: the largest one that begins there and does not reach beyond, again and again. */
function addRange(list: PrefixList, first: number, last: number): void {
  for (let at = first; at <= last; ) {
    let bits = 32;
    while (bits > 0 && at % 2 ** (33 - bits) === 0 && at + 2 ** (33 - bits) - 1 <= last) bits--;
    list.add(4, [at], bits);
    at += 2 ** (32 - bits);
  }
}
