/** The table [inline]: the interfaces that lb4 stands between. */
import { z } from 'zod';
import { LIMITS } from '../../layout/limits.ts';
import { readNetwork } from '../address.ts';
import { checked, key, lb4 } from './key.ts';

/** As the kernel has them (IFNAMSIZ), of characters that scripts can hold. */
const INTERFACE = /^(?!\.{1,2}$)[A-Za-z0-9_.:-]{1,15}$/;
const NAME = 'the name of an interface, "eth0"';
const NAMES = `names of interfaces, ["eth0"], 1–${LIMITS.ports} of them; or tables, [inline.frontends.NAME]`;
const CLIENTS = '"192.0.2.1", or IPv4 addresses and prefixes, ["192.0.2.1", "192.0.2.128/25"]';

export interface ClientPrefix {
  readonly address: string;
  readonly bits: number;
}

/** "192.0.2.1", "192.0.2.0/24": undefined where it is none, or an address with host bits. */
export function readPrefix(text: string): ClientPrefix | undefined {
  const network = readNetwork(text.includes('/') ? text : `${text}/32`);
  return 'problem' in network ? undefined : { address: text.replace(/\/.*/, ''), bits: network.bits };
}

const interfaceName = () => checked((text) => (INTERFACE.test(text) ? undefined : 'is no name of an interface'));
const oneOfThem = key(interfaceName(), { allowed: NAME, description: 'One of them.', ...lb4 });
const prefix = key(
  checked((text) => (readPrefix(text) === undefined ? 'is no IPv4 address or prefix' : undefined)),
  { allowed: CLIENTS, description: 'One of them.', ...lb4 },
);

const port = z.object({
  address: key(z.union([prefix, z.array(prefix).max(LIMITS.clients)]).default([]), {
    allowed: `${CLIENTS}, at most ${LIMITS.clients}`,
    description:
      'The clients behind it, or the routers to them. What is not named is learnt, and unknown ones are asked for at every port.',
    otherwise: 'they are learnt',
    ...lb4,
  }),
});

export const inline = z.object({
  frontends: key(z.union([z.array(oneOfThem).min(1).max(LIMITS.ports), z.record(interfaceName(), port)]), {
    allowed: NAMES,
    description:
      'The interfaces on the side of the clients; as tables, each with its key `address`, ["192.0.2.1", "10.3.0.0/24"]: the clients behind it, ' +
      'or the routers to them. With several, frames from the servers go to the one that they are for: by those addresses, else as learnt; ' +
      'unknown ones go to all.',
    ...lb4,
  }),
  backend: key(interfaceName(), { allowed: NAME, description: 'The interface on the side of the servers.', ...lb4 }),
});
