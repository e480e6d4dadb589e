/**
 * The modes that users choose between, and what the rest of the program has to know of each: whoever asks, asks for a fact, never for
 * a name. How packets are forwarded stands in src/forward alone. A new packet mode is a file and a line there, and a line here.
 */
import type { SchedulerName } from '../balance/index.ts';
import { type ModeName, modes } from '../forward/modes.ts';
import type { Backend, Dsr } from './model.ts';

/** The keys of a backend that say how its packets are forwarded, as far as the mode leaves it to them. */
export type ForwardingKeys = Pick<Backend, 'dsr' | 'nat'>;

interface ModeFacts {
  /** The scheduler of backends that name none. Those of packets hash: connections find their server again without state. */
  readonly balance: SchedulerName;
  /** How many directions of a connection pass lb4, of every backend: with 1, servers answer clients themselves. */
  readonly directions: 1 | 2;
  /** Whom servers see, of backends that say nothing else (factsOf). */
  readonly source: Facts['source'];
  /** How packets are forwarded, by the backend's keys; undefined: no packets are. */
  readonly forwards: ((keys: ForwardingKeys) => ModeName) | undefined;
  /** Frontends' addresses are this host's; else lb4 stands between interfaces, and they are nobody's. */
  readonly ownsAddresses: boolean;
  /** The tables of the file that say what is balanced. */
  readonly reads: 'frontends' | 'fan_out';
}

/** What depends on a backend as well as on the mode. */
interface Facts {
  /** Whom servers see: an address of this host, with a port of lb4's own pools or one that the kernel gives, or the client. */
  readonly source: 'pool' | 'kernel' | 'client';
  readonly directions: 1 | 2;
  /** How packets are forwarded; undefined: none are. */
  readonly forwards: ModeName | undefined;
}

const BY_DSR: Readonly<Record<Dsr, ModeName>> = { nat: 'dsr', l2: 'dsrL2', gue: 'dsrGue', ipip: 'dsrIpip' };

export const MODES = {
  proxy: { balance: 'roundrobin', directions: 2, source: 'kernel', forwards: undefined, ownsAddresses: true, reads: 'frontends' },
  passthrough: {
    balance: 'maglev',
    directions: 2,
    source: 'pool',
    forwards: ({ nat }) => (nat === 'destination' ? 'destination' : 'passthrough'),
    ownsAddresses: true,
    reads: 'frontends',
  },
  dsr: { balance: 'maglev', directions: 1, source: 'client', forwards: ({ dsr }) => BY_DSR[dsr], ownsAddresses: true, reads: 'frontends' },
  inline: { balance: 'maglev', directions: 2, source: 'client', forwards: () => 'destination', ownsAddresses: false, reads: 'frontends' },
  'fan-out': { balance: 'roundrobin', directions: 2, source: 'client', forwards: undefined, ownsAddresses: true, reads: 'fan_out' },
} as const satisfies Record<string, ModeFacts>;

/** How lb4 runs: the command line's choice. One file may serve all. */
export type Mode = keyof typeof MODES;
/** Those in which frames pass through lb4, not connections. */
export type PacketMode = { [M in Mode]: (typeof MODES)[M]['forwards'] extends undefined ? never : M }[Mode];

/** Whether frames pass through lb4, for which it needs CAP_NET_RAW and firewall rules, and not connections. */
export function isPacketMode(mode: string): mode is PacketMode {
  return Object.hasOwn(MODES, mode) && MODES[mode as Mode].forwards !== undefined;
}

/** Whether the kernel alone has the connections, by [fan_out]. */
export function fansOut(mode: Mode | undefined): boolean {
  return mode !== undefined && MODES[mode].reads === 'fan_out';
}

/** What is to be known of a backend in a mode. */
export function factsOf(mode: PacketMode, keys: ForwardingKeys): Facts & { readonly forwards: ModeName };
export function factsOf(mode: Mode, keys: ForwardingKeys): Facts;
export function factsOf(mode: Mode, keys: ForwardingKeys): Facts {
  const { forwards } = MODES[mode];
  if (forwards === undefined) return { source: MODES[mode].source, directions: MODES[mode].directions, forwards };
  const name = forwards(keys);
  const { source, directions } = modes[name];
  return { source, directions, forwards: name };
}

/** Servers of the backend hold the frontends' addresses themselves. */
export function holdsVip(mode: Mode, keys: ForwardingKeys): boolean {
  return sharesLink(mode, keys) || isWrapped(mode, keys);
}

/** Servers of the backend must be on a link of this host's. */
export function sharesLink(mode: Mode, keys: ForwardingKeys): boolean {
  const { forwards } = factsOf(mode, keys);
  return forwards !== undefined && modes[forwards].onLink;
}

/** Packets go to the servers of the backend inside of others. */
export function isWrapped(mode: Mode, keys: ForwardingKeys): boolean {
  return wrapping(mode, keys) !== undefined;
}

/** Bytes of the headers around a packet on its way to servers of the backend (packet/tunnel.ts); undefined: it goes as it is. */
export function wrapping(mode: Mode, keys: ForwardingKeys): number | undefined {
  const { forwards } = factsOf(mode, keys);
  return forwards === undefined ? undefined : modes[forwards].tunnel;
}

/** Further servers in the list of hops of GUE, by a table of GLB's: its second one, or three while it migrates to other fields. */
export function hopsIn({ altHashFields }: { readonly altHashFields: readonly unknown[] }): 1 | 3 {
  return altHashFields.length === 0 ? 1 : 3;
}

/** Servers of the backend answer clients themselves, and put the frontend's address in place of their own as an answer leaves. */
export function rewritesAnswers(mode: Mode, keys: ForwardingKeys): boolean {
  return factsOf(mode, keys).directions === 1 && !holdsVip(mode, keys);
}
