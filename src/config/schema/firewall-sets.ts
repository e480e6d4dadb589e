/** Sets of the host's firewall that a file names: `[passthrough] respect_firewall`. */
import { z } from 'zod';
import { MOST_DENY } from '../../access/prefix-table.ts';
import { checked, guard, key, lb4 } from './key.ts';

/** Each is a rule of every frontend, with counters of its own, beside what the frontend's own `deny` has. */
export const MOST_SETS = MOST_DENY - 1;
const ALLOWED = `"inet filter blocked", family, table and set as nft has them, at most ${MOST_SETS}`;
/** Nothing that nft's shell, or a terminal, would take for more than a name (nft(8): identifiers). */
const NAMED = /^(?:ip|inet|netdev|bridge) [A-Za-z][\w./\\-]{0,127} [A-Za-z][\w./\\-]{0,127}$/;

export const respectFirewall = key(
  z
    .array(
      key(
        checked((text) =>
          NAMED.test(text) ? undefined : 'is no family (ip, inet, netdev, bridge), table and set, with a blank between them',
        ),
        { allowed: ALLOWED, description: 'One of them.', ...lb4 },
      ),
    )
    .max(MOST_SETS)
    .optional(),
  {
    allowed: `["inet filter blocked"]: ${ALLOWED}`,
    description:
      "Sets of nft's, of type ipv4_addr, whose addresses may not connect to any frontend, as if its `deny` had them: lb4 sees packets before the " +
      'firewall does ([operations](operations.md#sets-of-the-firewall)). Read at the start, and every two seconds; large ones less often. One that is not there counts as empty until it is.',
    otherwise: "the firewall's sets keep nobody from a frontend",
    ...guard,
  },
);
