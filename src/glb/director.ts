/** GLB's director configuration (github/glb-director, docs/setup/glb-director-configuration.md), as far as lb4 has something like it. */
import { isIPv4 } from 'node:net';
import { HASH_FIELDS, type HashField } from '../balance/glb-hash.ts';
import type { Mistake } from '../errors.ts';
import { isText, type Place, Reader } from './reader.ts';

/** A part of a file that lb4 does not take over, and why. */
export interface Left {
  readonly place: Place;
  readonly why: string;
  /** Nothing is to be done about it. */
  readonly isNeedless?: boolean;
}

/** A value, and where it stands. */
export interface Given<T> {
  readonly value: T;
  readonly place: Place;
}

export interface DirectorConfig {
  /** The outer source of what goes to servers, IPv4. */
  readonly source: Given<string> | undefined;
  readonly hashFields: Given<readonly HashField[]> | undefined;
  readonly altHashFields: Given<readonly HashField[]> | undefined;
  /** What has the servers answer pings: the key, or, where that is missing, the file. */
  readonly pings: Place | undefined;
  readonly left: readonly Left[];
  readonly mistakes: readonly Mistake[];
}

/** Of lb4's fields the director's words, in lb4's order. */
const WORDS: Readonly<Record<HashField, string>> = {
  source: 'src_addr',
  destination: 'dst_addr',
  source_port: 'src_port',
  destination_port: 'dst_port',
};
const OWN = ['outbound_src_ip', 'hash_fields', 'alt_hash_fields'];
const NOT_NEEDED = 'not needed: lb4 asks the kernel for ways, and has workers of its own';
/** What else there is. */
const LEFT: Readonly<Record<string, string>> = {
  outbound_gateway_mac: NOT_NEEDED,
  lcores: NOT_NEEDED,
  flow_paths: NOT_NEEDED,
  num_worker_queues: NOT_NEEDED,
  rx_drop_en: NOT_NEEDED,
  kni_ip: NOT_NEEDED,
  statsd_port: 'lb4 sends no statistics: it is asked for them, [stats]',
};
const PINGS = 'forward_icmp_ping_responses';

const isAddress = (value: unknown): value is string => isText(value) && isIPv4(value);

/** @param file its name in messages */
export function readDirector(text: string, file: string): DirectorConfig {
  const reader = new Reader(file);
  const root = reader.open(text);
  if (root === undefined)
    return { source: undefined, hashFields: undefined, altHashFields: undefined, pings: undefined, left: [], mistakes: reader.mistakes };
  reader.onlyThese(root, [...OWN, PINGS, ...Object.keys(LEFT)]);
  const source = reader.read(root, 'outbound_src_ip', 'an IPv4 address', isAddress, { isNeeded: false });
  const at = reader.member(root, 'outbound_src_ip');
  const whole = {
    source: source === undefined || at === undefined ? undefined : { value: source, place: at },
    hashFields: fieldsIn(reader, root, 'hash_fields'),
    altHashFields: fieldsIn(reader, root, 'alt_hash_fields'),
    pings: pingsIn(reader, root),
    left: Object.entries(LEFT).flatMap(([name, why]): Left[] => {
      const place = reader.member(root, name);
      return place === undefined ? [] : [{ place, why, isNeedless: true }];
    }),
  };
  return { ...whole, mistakes: reader.mistakes };
}

/** Whatever is not false is true to a director, and so is nothing at all. */
function pingsIn(reader: Reader, root: Place): Place | undefined {
  const place = reader.member(root, PINGS);
  return place?.node.value === false ? undefined : (place ?? root);
}

function fieldsIn(reader: Reader, root: Place, name: string): Given<readonly HashField[]> | undefined {
  const place = reader.member(root, name);
  if (place === undefined) return undefined;
  reader.onlyThese(place, Object.values(WORDS));
  const value = HASH_FIELDS.filter((field) => place.node.children.get(WORDS[field])?.value === true);
  if (value.length > 0) return { value, place };
  reader.error(place, `has no field that is true; needed: one of ${Object.values(WORDS).join(', ')}`);
  return undefined;
}
