/** Every number read once, so that the sums of a document agree with their parts. */
import type { BackendView, Counters, Mode, PacketCounters, ServerCounters, ServerView, Source, Totals, View } from './source.ts';

export const NOTHING: Counters = Object.freeze({ total: 0, current: 0, bytesTx: 0, bytesRx: 0 });

export interface FrontendRow {
  readonly name: string;
  readonly draining: boolean;
  readonly counters: Counters;
}

export interface ServerRow {
  readonly view: ServerView;
  readonly counters: ServerCounters;
}

export interface BackendRow {
  readonly name: string;
  /** Its servers' sum, with those that are gone. */
  readonly counters: Counters;
  readonly servers: readonly ServerRow[];
}

export interface Snapshot extends Pick<View, 'reload' | 'stopping'> {
  readonly mode: Mode;
  /** The frontends' sum, with those that are gone. */
  readonly all: Counters;
  readonly frontends: readonly FrontendRow[];
  readonly backends: readonly BackendRow[];
  readonly packets: PacketCounters | undefined;
}

export function takeSnapshot(source: Source, { frontends: views, backends, retired, reload, stopping }: View): Snapshot {
  const frontends = views.map(({ name, index, draining = false }) => ({ name, draining, counters: source.frontend(index) }));
  return {
    mode: source.mode,
    all: sum(retired, frontends),
    frontends,
    backends: backends.map((view) => backendRow(source, view)),
    packets: source.packets?.(),
    reload,
    stopping,
  };
}

function backendRow(source: Source, { name, servers: views, retired }: BackendView): BackendRow {
  const servers = views.map((view) => ({ view, counters: source.server(view.index) }));
  return { name, counters: sum(retired, servers), servers };
}

function sum(retired: Totals, rows: readonly { readonly counters: Counters }[]): Counters {
  return rows.reduce((all, { counters }) => add(all, counters), add(NOTHING, { ...retired, current: 0 }));
}

/** Adds up what two have counted. */
export function add(a: Counters, b: Counters): Counters {
  return { total: a.total + b.total, current: a.current + b.current, bytesTx: a.bytesTx + b.bytesTx, bytesRx: a.bytesRx + b.bytesRx };
}
