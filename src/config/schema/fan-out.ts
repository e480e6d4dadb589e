/** The tables [fan_out.NAME]: a port that the kernel spreads over processes of this host. */
import { z } from 'zod';
import { type Address, addressOf, joinPort, readAddress, readPort, serverProblem } from '../address.ts';
import { FAN_OUT_BALANCE } from '../model.ts';
import { healthCheckKeys } from './health.ts';
import { checked, flag, key, lb4, oneOf, whole } from './key.ts';

/** Processes of one fan-out. */
export const MOST_PROCESSES = 64;
const PROTOCOLS = ['tcp', 'udp'] as const;
const LISTEN = 'a port, "3128", or an address of this host and a port, "192.0.2.1:3128"';
const PORTS = `ports, 1–65535, each once and 1–${MOST_PROCESSES} of them, [3128, 3129]; or with their weights, { 3128 = 1, 3129 = 2 }`;

/** What a fan-out listens at: a port alone is every address of this host's, of both families. */
export function listensAt(text: string): readonly Address[] {
  return /^\d+$/.test(text) ? ['0.0.0.0', '::'].map((ip) => addressOf(joinPort(ip, text))) : [addressOf(text)];
}

/** What keeps a text from being that, or undefined. */
export function listenProblemOf(text: string): string | undefined {
  if (/^\d+$/.test(text)) {
    const port = readPort(text);
    return typeof port === 'number' ? undefined : port.problem;
  }
  const address = readAddress(text);
  if ('problem' in address) return address.problem;
  return address.ip === '0.0.0.0' || address.ip === '::' ? undefined : serverProblem(address);
}

function portProblem(text: string): string | undefined {
  const port = readPort(text);
  return typeof port === 'number' ? undefined : port.problem;
}

const port = key(z.int().min(1).max(65535), { allowed: 'a port, 1–65535', description: 'One of them.', ...lb4 });
const weight = whole(0, 65535, 1, { description: 'Its share of new connections. 0: none.', ...lb4 });

export const fanOut = z.object({
  listen: key(checked(listenProblemOf), {
    allowed: LISTEN,
    description:
      'What clients call. A port alone: at every address of this host, of IPv4 and IPv6; `0.0.0.0:3128` and `[::]:3128`: of one of them.',
    ...lb4,
  }),
  ports: key(z.union([z.array(port).min(1).max(MOST_PROCESSES), z.record(checked(portProblem), weight)]), {
    allowed: PORTS,
    description: 'Where the processes listen, each at all addresses. The port of `listen` may be one of them.',
    ...lb4,
  }),
  balance: key(z.enum(FAN_OUT_BALANCE).default('roundrobin'), {
    allowed: oneOf(FAN_OUT_BALANCE),
    description:
      "How the kernel chooses, by weight. `roundrobin`: in turn. `random`: by lot. `source`: by a hash of the client's address, so that it stays with its process; " +
      'with nft alone.',
    ...lb4,
  }),
  local: flag({ description: 'For programs of this host as well, which call one of its addresses.', ...lb4 }),
  protocol: key(z.enum(PROTOCOLS).default('tcp'), { allowed: oneOf(PROTOCOLS), description: 'What clients speak.', ...lb4 }),
  ...healthCheckKeys,
});
