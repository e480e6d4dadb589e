/** Who may connect to a frontend, and how often: its keys, and the model's words for them. */
import { z } from 'zod';
import { AccessList, PrefixList } from '../../access/prefix-list.ts';
import { MOST_DENY } from '../../access/prefix-table.ts';
import { MOST_COUNTED, SLOWEST_RATE } from '../../access/source-table.ts';
import { readPrefix } from '../address.ts';
import { ACCESS_ACTIONS, type Frontend } from '../model.ts';
import { checked, flag, guard, key, lb4, oneOf, whole } from './key.ts';

/** What stands before the path of a file of prefixes. */
const FILE_MARK = '@';
/** Files of a frontend's `deny`: each is a rule with counters of its own, as all other entries are together. */
const MOST_FILES = MOST_DENY - 1;
const ENTRIES = '["192.0.2.0/24", "2001:db8::/32", "198.51.100.7", "@/etc/lb4/block"]: IP addresses, prefixes and files of them';

const list = (description: string, allowed: string, most: number) =>
  key(
    z
      .array(key(checked(entryProblem), { allowed: ENTRIES, description: 'One of them.', ...lb4 }))
      .superRefine((entries, context) => {
        if (filesOf(entries).length > most) context.addIssue({ code: 'custom', message: `has more than ${most} files`, input: entries });
      })
      .optional(),
    { allowed, description, otherwise: 'nobody is refused by it', ...guard },
  );

/** Keys of a frontend. */
export const accessKeys = {
  allow: list(
    'Who may connect, and nobody else: addresses, prefixes, and files (`@` and an absolute path) with one a line, and comments behind `#` or `;` ' +
      '([operations](operations.md#who-may-connect)). Files are watched and taken over as this one is.',
    `${ENTRIES}, at most ${MOST_FILES} files`,
    MOST_FILES,
  ),
  deny: list(
    'Who may not connect, also where `allow` has them. It holds for new connections: those that are open stay.',
    `${ENTRIES}, at most ${MOST_FILES} files`,
    MOST_FILES,
  ),
  source_rate: key(z.union([z.literal(0), z.number().min(SLOWEST_RATE).max(100_000)]).default(0), {
    allowed: '0, or a number, 0.001–100000',
    description:
      "New connections a second that a source may open (UDP: flows, with `udp_per_packet` datagrams), after as many at once as a second's. 0: no limit.",
    ...guard,
  }),
  source_maxconn: whole(0, MOST_COUNTED, 0, {
    description: 'Connections at a time that a source may have, those still opening included. 0: no limit.',
    ...guard,
  }),
  source_prefix: whole(1, 32, 32, {
    description: 'How many bits of an IPv4 address make a source: with 24 all of 192.0.2.0/24 are one. Of IPv6 it is always 64.',
    ...guard,
  }),
  deny_action: key(z.enum(ACCESS_ACTIONS).default('drop'), {
    allowed: oneOf(ACCESS_ACTIONS),
    description:
      'What becomes of who is refused by these rules, in the packet modes: `drop`, nothing is said; `reset`, as where nobody listens. Proxy mode resets.',
    ...guard,
  }),
  dry_run: flag({ description: 'Who would be refused by these rules is counted, and let in.', ...guard }),
};

type AccessKeys = z.infer<z.ZodObject<typeof accessKeys>>;

function entryProblem(text: string): string | undefined {
  if (text.startsWith(FILE_MARK)) return /^@\/[^\0]*[^/\0]$/.test(text) ? undefined : 'is no absolute path of a file behind its @';
  const read = readPrefix(text);
  return 'problem' in read ? read.problem : undefined;
}

/** The paths among the entries of a list. */
export function filesOf(entries: readonly string[]): string[] {
  return entries.filter((text) => text.startsWith(FILE_MARK)).map((text) => text.slice(1));
}

/** The model's part of a frontend. What every frontend would have is left out. */
export function resolveAccess(keys: AccessKeys, listOf: (path: string) => PrefixList): Partial<Frontend> {
  const { allow, deny, source_rate, source_maxconn, source_prefix, deny_action, dry_run } = keys;
  const isLimited = source_rate > 0 || source_maxconn > 0;
  return {
    ...(allow !== undefined && { allow: accessList(allow, listOf) }),
    ...(deny !== undefined && { deny: accessList(deny, listOf) }),
    ...(source_rate > 0 && { sourceRate: source_rate }),
    ...(source_maxconn > 0 && { sourceMaxconn: source_maxconn }),
    ...(isLimited && source_prefix !== 32 && { sourcePrefix: source_prefix }),
    ...(deny_action !== 'drop' && { denyAction: deny_action }),
    ...(dry_run && { dryRun: true }),
  };
}

function accessList(entries: readonly string[], listOf: (path: string) => PrefixList): AccessList {
  const inline = new PrefixList();
  for (const text of entries) {
    const read = text.startsWith(FILE_MARK) ? undefined : readPrefix(text);
    if (read !== undefined && !('problem' in read)) inline.add(read.family, read.first, read.bits);
  }
  return new AccessList(inline, new Map(filesOf(entries).map((path) => [path, listOf(path)])), entries);
}
