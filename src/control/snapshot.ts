/** Every number read once, so that the sums of a document agree with their parts. */
import {
  addTotals,
  type BackendView,
  type Counters,
  type FrontendCounters,
  type FrontendView,
  type PacketCounters,
  type RuleView,
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
  /** By rule. */
  readonly refusals: readonly Refusal[];
  /** New connections that its limits a source had no room for; undefined: it has none. */
  readonly unlimited: number | undefined;
}

/** What one rule about a frontend's clients refused, and would have (`dry_run`): first packets, in proxy mode connections. */
export interface Refusal {
  readonly rule: string;
  readonly refused: number;
  readonly wouldRefuse: number;
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
  const frontends = views.map(({ index, draining = false, silent = false, rules = [], unlimitedColumn, ...names }) => {
    const counts = rules.length === 0 ? [] : (source.refusals?.(index) ?? []);
    const unlimited = unlimitedColumn === undefined ? undefined : (counts[unlimitedColumn] ?? 0);
    return { ...names, draining, silent, counters: source.frontend(index), refusals: refusals(counts, rules), unlimited };
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

function refusals(counts: readonly number[], rules: readonly RuleView[]): Refusal[] {
  return rules.map(({ rule, column, dryColumn }) => ({ rule, refused: counts[column] ?? 0, wouldRefuse: counts[dryColumn] ?? 0 }));
}

function backendRow(source: Source, { servers: views, retired, ...names }: BackendView): BackendRow {
  const servers = views.map((view) => ({ view, counters: source.server(view.index) }));
  return { ...names, counters: sum(retired, servers), queued: source.queued?.(names.name), servers };
}

function sum(retired: Totals, rows: readonly { readonly counters: Counters }[]): Counters {
  const { total, bytesTx, bytesRx } = rows.reduce((all, { counters }) => addTotals(all, counters), retired);
  return { total, bytesTx, bytesRx, current: rows.reduce((all, { counters }) => all + counters.current, 0) };
}
