/**
 * The modes that users choose between, and what the rest of the program has to know of each: whoever asks, asks for a fact, never for
 * a name. How packets are forwarded stands in src/forward alone. A new packet mode is a file and a line there, and a line here.
 */
import type { SchedulerName } from '../balance/index.ts';
import { type ModeName, modes } from '../forward/modes.ts';
import type { Backend, Dsr } from './model.ts';

interface Facts {
  /** The scheduler of backends that name none. */
  readonly balance: SchedulerName;
  /** How many directions of a connection pass lb4: with 1, servers answer clients themselves. */
  readonly directions: 1 | 2;
  /** Whom servers see: an address of this host, with a port of lb4's own pools or one that the kernel gives, or the client. */
  readonly source: 'pool' | 'kernel' | 'client';
  /** How packets are forwarded, by the backend's key `dsr`; undefined: no packets are, connections end here and others begin. */
  readonly forwards: Readonly<Record<Dsr, ModeName>> | undefined;
}

/** What does not depend on the key `dsr` is the same for either of its values. They hash: connections find their server again without state. */
function packetMode(forwards: Readonly<Record<Dsr, ModeName>>) {
  const { directions, source } = modes[forwards.nat];
  return { balance: 'maglev', directions, source, forwards } as const;
}

export const MODES = {
  proxy: { balance: 'roundrobin', directions: 2, source: 'kernel', forwards: undefined },
  passthrough: packetMode({ nat: 'passthrough', l2: 'passthrough' }),
  dsr: packetMode({ nat: 'dsr', l2: 'dsrL2' }),
} as const satisfies Record<string, Facts>;

/** How lb4 runs: the command line's choice. One file may serve all. */
export type Mode = keyof typeof MODES;
/** Those in which frames pass through lb4, not connections. */
export type PacketMode = { [M in Mode]: (typeof MODES)[M]['forwards'] extends undefined ? never : M }[Mode];

/** Whether frames pass through lb4, for which it needs CAP_NET_RAW and firewall rules, and not connections. */
export function isPacketMode(mode: string): mode is PacketMode {
  return Object.hasOwn(MODES, mode) && MODES[mode as Mode].forwards !== undefined;
}

/** Servers of the backend hold the frontends' addresses themselves, and share a link with this host. */
export function holdsVip(mode: Mode, { dsr }: Pick<Backend, 'dsr'>): boolean {
  const { forwards } = MODES[mode];
  return forwards !== undefined && modes[forwards[dsr]].onLink;
}

/** Servers of the backend answer clients themselves, and put the frontend's address in place of their own as an answer leaves. */
export function rewritesAnswers(mode: Mode, backend: Pick<Backend, 'dsr'>): boolean {
  return MODES[mode].directions === 1 && !holdsVip(mode, backend);
}
