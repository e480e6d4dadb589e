/**
 * The packet modes: `ready`, every server up, and nothing passes. What is forwarded to a server that passes its health checks is
 * lost on the way there or back, and no check can tell. The counters can: connections are opened to it, and none is answered.
 */

/** What is known of a server at one look. Times are on the monotonic clock, in ms. */
export interface Observed {
  readonly key: string;
  /** Its checks do not say that it is down, and it is not on its way out. */
  readonly up: boolean;
  /** Connections whose answer is due, and those that were answered: both only grow, or begin anew with another server. */
  readonly due: number;
  readonly answered: number;
  /** When the last check that passed began. */
  readonly passedAt: number | undefined;
  /** Who may be the one that answers, where that is several: once it changes, those that wait tell nothing any more. */
  readonly among?: string;
}

export interface SilenceReports {
  /** Servers that have fallen silent. */
  readonly fell: (keys: readonly string[]) => void;
  /** A server that was silent answers. */
  readonly answers: (key: string) => void;
  /** It may be dead instead: its next check is wanted now. */
  readonly suspect: (key: string) => void;
}

/** So many connections in a row without one answer are no accident: one or two may come from a client that went away, or be a scan. */
export const CONNECTIONS = 3;
/** An answer may be on its way for so long: longer than a handshake around the world, and than the first repetition of a SYN. */
export const PATIENCE_MS = 2000;

interface SilenceRecord {
  /** `due` when it last answered, or when this was begun. */
  from: number;
  answered: number;
  /** When it was first seen that too many wait. */
  doubted: number | undefined;
  among: string | undefined;
  silent: boolean;
}

export class Silence {
  readonly #reports: SilenceReports;
  #records = new Map<string, SilenceRecord>();

  constructor(reports: SilenceReports) {
    this.#reports = reports;
  }

  isSilent(key: string): boolean {
    return this.#records.get(key)?.silent ?? false;
  }

  /** Looks at all servers, a second or so after the last time. Who is not among them is forgotten. */
  look(servers: readonly Observed[], now: number): void {
    const last = this.#records;
    this.#records = new Map(servers.map((server) => [server.key, last.get(server.key) ?? begin(server)]));
    const fallen = servers.filter((server) => this.#falls(server, this.#records.get(server.key) as SilenceRecord, now));
    if (fallen.length > 0) this.#reports.fell(fallen.map(({ key }) => key));
  }

  /** Whether it has fallen silent just now. */
  #falls(server: Observed, record: SilenceRecord, now: number): boolean {
    if (!server.up || server.answered !== record.answered || server.due < record.from) {
      // Of a server that is down its checks have told.
      if (record.silent && server.up) this.#reports.answers(server.key);
      Object.assign(record, begin(server));
      return false;
    }
    if (!record.silent && server.among !== record.among) Object.assign(record, begin(server));
    if (record.silent || server.due - record.from < CONNECTIONS) return false;
    if (record.doubted === undefined) {
      record.doubted = now;
      this.#reports.suspect(server.key);
      return false;
    }
    const hasPassed = server.passedAt !== undefined && server.passedAt >= record.doubted;
    record.silent = hasPassed && now - record.doubted >= PATIENCE_MS;
    return record.silent;
  }
}

function begin({ due, answered, among }: Observed): SilenceRecord {
  return { from: due, answered, doubted: undefined, among, silent: false };
}
