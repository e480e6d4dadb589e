/**
 * The packet modes: `ready`, every server up, and nothing passes. What is forwarded to a server that passes its health checks is
 * lost on the way there or back, and no check can tell. The counters can: connections are opened to it, and none is answered.
 *
 * Datagrams need no answer (syslog), and some of a protocol that has answers get none: strangers' scans, what is malformed. So they count only where it
 * is known that such a service answers: it has, most of the time, or a check by datagram, or its backend's other servers do; many more of them
 * must wait, for longer; and nothing at all may come from the server meanwhile.
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
  /** Of datagrams alone. */
  readonly datagrams?: {
    /** Bytes that have come from it so far. */
    readonly heard: number;
    /** Something else than what it has done itself shows that such a service answers. */
    readonly isTwoWay: boolean;
  };
}

export interface SilenceReports {
  /** Servers that have fallen silent; of one again only after the time that the constructor has, where it is so then. */
  readonly fell: (keys: readonly string[]) => void;
  /** A server of which that was told answers. */
  readonly answers: (key: string) => void;
  /** It may be dead instead: its next check is wanted now. */
  readonly suspect: (key: string) => void;
}

/** So many connections in a row without one answer are no accident: one or two may come from a client that went away, or be a scan. */
export const CONNECTIONS = 3;
/** An answer may be on its way for so long: longer than a handshake around the world, and than the first repetition of a SYN. */
export const PATIENCE_MS = 2000;

/** The same of flows of datagrams: a recursive DNS server takes 5 s for a name whose servers are gone. */
export const FLOWS = 16;
export const FLOWS_PATIENCE_MS = 10_000;
/** They must have come within so long: over a night strangers' scans of an idle service add up to more than that. */
export const FLOWS_WINDOW_MS = 300_000;
/**
 * With direct server return, of one server so often at most: its answers are not seen, so a stranger's SYNs make it look silent, and whatever he says
 * next as if it had answered. Where they pass here nobody but the server can take back that it is silent.
 */
export const AGAIN_MS = 300_000;
/** So many that were answered, and half of all that were asked for until then, show that a service answers. */
const LEARNT = 8;

interface SilenceRecord {
  /** `due` when it last answered, or when this was begun. */
  from: number;
  answered: number;
  /** When more than that were first seen. */
  waiting: number | undefined;
  /** When it was first seen that too many wait. */
  doubted: number | undefined;
  heard: number | undefined;
  among: string | undefined;
  silent: boolean;
  /** That it is so now. */
  told: boolean;
  /** When that was told last, of this time or another. */
  toldAt?: number;
}

export class Silence {
  readonly #reports: SilenceReports;
  readonly #againMs: number;
  #records = new Map<string, SilenceRecord>();

  /** @param againMs AGAIN_MS where answers are taken on trust, 0 where they are seen */
  constructor(reports: SilenceReports, againMs: number) {
    this.#reports = reports;
    this.#againMs = againMs;
  }

  isSilent(key: string): boolean {
    return this.#records.get(key)?.silent ?? false;
  }

  /** Whether that was told. */
  isTold(key: string): boolean {
    return this.#records.get(key)?.told ?? false;
  }

  /** Whether what it has done so far shows that it answers. */
  isAnswering(key: string): boolean {
    const record = this.#records.get(key);
    return record !== undefined && record.answered >= LEARNT && record.answered * 2 >= record.from;
  }

  /** Looks at all servers, a second or so after the last time. Who is not among them is forgotten. */
  look(servers: readonly Observed[], now: number): void {
    const last = this.#records;
    this.#records = new Map(servers.map((server) => [server.key, last.get(server.key) ?? begin(server)]));
    const fallen = servers.filter((server) => this.#isNews(server, this.#records.get(server.key) as SilenceRecord, now));
    if (fallen.length > 0) this.#reports.fell(fallen.map(({ key }) => key));
  }

  /** Whether it is silent, and that is to be told now. */
  #isNews(server: Observed, record: SilenceRecord, now: number): boolean {
    this.#follow(server, record, now);
    if (!record.silent || record.told || now - (record.toldAt ?? Number.NEGATIVE_INFINITY) < this.#againMs) return false;
    Object.assign(record, { told: true, toldAt: now });
    return true;
  }

  #follow(server: Observed, record: SilenceRecord, now: number): void {
    if (!server.up || hasAnswered(server, record)) {
      // Of a server that is down its checks have told.
      if (record.told && server.up) this.#reports.answers(server.key);
      Object.assign(record, begin(server));
      return;
    }
    const isOneWay = server.datagrams !== undefined && !server.datagrams.isTwoWay && !this.isAnswering(server.key);
    if (!record.silent && (isOneWay || server.among !== record.among)) Object.assign(record, begin(server));
    if (!record.silent && isStale(server, record, now)) Object.assign(record, begin(server));
    if (record.silent || server.due - record.from < leastOf(server)) return;
    if (record.doubted === undefined) {
      record.doubted = now;
      this.#reports.suspect(server.key);
      return;
    }
    const hasPassed = server.passedAt !== undefined && server.passedAt >= record.doubted;
    record.silent = hasPassed && now - record.doubted >= (server.datagrams === undefined ? PATIENCE_MS : FLOWS_PATIENCE_MS);
  }
}

function hasAnswered({ answered, due, datagrams }: Observed, record: SilenceRecord): boolean {
  return answered !== record.answered || due < record.from || datagrams?.heard !== record.heard;
}

/** Whether datagrams wait, too few, and for too long to be one matter with those to come. */
function isStale({ due, datagrams }: Observed, record: SilenceRecord, now: number): boolean {
  if (datagrams === undefined || due === record.from || due - record.from >= FLOWS) return false;
  record.waiting ??= now;
  return now - record.waiting > FLOWS_WINDOW_MS;
}

/** So many must wait for an answer. */
export function leastOf({ datagrams }: Pick<Observed, 'datagrams'>): number {
  return datagrams === undefined ? CONNECTIONS : FLOWS;
}

/** Anew; when it was told last stays. */
function begin({ due, answered, among, datagrams }: Observed): SilenceRecord {
  return { from: due, answered, waiting: undefined, doubted: undefined, heard: datagrams?.heard, among, silent: false, told: false };
}
