/** A snapshot's rows with the labels that name them in metrics. */
import type { Refusal, ServerRow, Snapshot } from './snapshot.ts';
import type { Counters, FrontendCounters, WorkerCounters } from './source.ts';

export type Labels = Readonly<Record<string, string>>;

/** Of a snapshot, each row with its labels: one object a row, which all its samples share. */
export interface LabelledRows
  extends Pick<Snapshot, 'mode' | 'packets' | 'reload' | 'host' | 'logLinesLost' | 'connectionLog' | 'discoveryFailing'> {
  readonly version: string;
  readonly frontends: readonly Labelled<FrontendSummary>[];
  /** One a frontend and rule. */
  readonly refusals: readonly Labelled<Refusal>[];
  readonly backends: readonly Labelled<BackendSummary>[];
  readonly servers: readonly Labelled<ServerRow>[];
  readonly workers: readonly Labelled<WorkerCounters>[];
}

export interface Labelled<Row> {
  readonly labels: Labels;
  readonly row: Row;
}

interface FrontendSummary {
  readonly counters: FrontendCounters;
  /** It takes connections. */
  readonly open: boolean;
  readonly silent: boolean;
  readonly unlimited: number | undefined;
}

interface BackendSummary {
  readonly counters: Counters;
  readonly queued: number | undefined;
  /** Servers that may be chosen. */
  readonly active: number;
  /** The same among the backups. */
  readonly backups: number;
}

/** What the families read, put together once a scrape. */
export function labelRows(snapshot: Snapshot, version: string): LabelledRows {
  const { mode, packets, reload, host, logLinesLost, connectionLog, discoveryFailing, stopping, frontends, backends } = snapshot;
  return {
    mode,
    packets,
    reload,
    host,
    logLinesLost,
    connectionLog,
    discoveryFailing,
    version,
    frontends: frontends.map(({ name, protocol, draining, silent, counters, unlimited }) => ({
      labels: { frontend: name, protocol },
      row: { counters, silent, unlimited, open: !stopping && !draining },
    })),
    refusals: frontends.flatMap(({ name: frontend, protocol, refusals }) => {
      return refusals.map((row) => ({ labels: { frontend, protocol, rule: row.rule }, row }));
    }),
    backends: backends.map(({ name, protocol, counters, queued, servers }) => {
      const usable = servers.filter(mayBeChosen);
      const backups = usable.filter(({ view }) => view.backup).length;
      return { labels: { backend: name, protocol }, row: { counters, queued, active: usable.length - backups, backups } };
    }),
    workers: (packets?.workers ?? []).map((row, i) => ({ labels: { worker: `${i}` }, row })),
    servers: backends.flatMap(({ name, protocol, servers }) => {
      return servers.map((row) => ({ labels: { backend: name, server: row.view.name, protocol }, row }));
    }),
  };
}

/** A server that has not been checked yet counts as up, as it does for the schedulers. */
function mayBeChosen({ view: { state, weight } }: ServerRow): boolean {
  return (state === 'up' || state === 'unknown') && weight > 0;
}
