/** Every number read once, so that the sums of a document agree with their parts. */
import {
  addTotals,
  type BackendView,
  type Counters,
  type FrontendCounters,
  type FrontendView,
  type PacketCounters,
  type ServerCounters,
  type ServerView,
  type Source,
  type Totals,
  type View,
} from './source.ts';

export interface FrontendRow extends Pick<FrontendView, 'name' | 'protocol' | 'address' | 'backend'> {
  readonly draining: boolean;
  readonly silent: boolean;
  readonly counters: FrontendCounters;
}

export interface ServerRow {
  readonly view: ServerView;
  readonly counters: ServerCounters;
}

export interface BackendRow extends Pick<BackendView, 'name' | 'protocol' | 'balance'> {
  /** Its servers' sum, with those that are gone. */
  readonly counters: Counters;
  /** Connections that wait for one of them; undefined where none ever does. */
  readonly queued: number | undefined;
  readonly servers: readonly ServerRow[];
}

export interface Snapshot extends Pick<View, 'reload' | 'host' | 'logLinesLost' | 'connectionLog' | 'discoveryFailing' | 'stopping'> {
  readonly mode: string;
  /** The frontends' sum, with those that are gone. */
  readonly all: Counters;
  readonly frontends: readonly FrontendRow[];
  readonly backends: readonly BackendRow[];
  readonly packets: PacketCounters | undefined;
}

export function takeSnapshot(source: Source, view: View): Snapshot {
  const { frontends: views, backends, retired, reload, host, logLinesLost, connectionLog, discoveryFailing, stopping } = view;
  const frontends = views.map(({ index, draining = false, silent = false, ...names }) => {
    return { ...names, draining, silent, counters: source.frontend(index) };
  });
  return {
    mode: source.mode,
    all: sum(retired, frontends),
    frontends,
    backends: backends.map((view) => backendRow(source, view)),
    packets: source.packets?.(),
    reload,
    host,
    logLinesLost,
    connectionLog,
    discoveryFailing,
    stopping,
  };
}

function backendRow(source: Source, { servers: views, retired, ...names }: BackendView): BackendRow {
  const servers = views.map((view) => ({ view, counters: source.server(view.index) }));
  return { ...names, counters: sum(retired, servers), queued: source.queued?.(names.name), servers };
}

function sum(retired: Totals, rows: readonly { readonly counters: Counters }[]): Counters {
  const { total, bytesTx, bytesRx } = rows.reduce((all, { counters }) => addTotals(all, counters), retired);
  return { total, bytesTx, bytesRx, current: rows.reduce((all, { counters }) => all + counters.current, 0) };
}
