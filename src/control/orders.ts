/** What the control API asks of a running lb4: what operators want to know, and what they order. */
import type { FlowRow } from './flow-rows.ts';
import type { CapturedPacket } from './pcapng.ts';
import type { Source, View } from './source.ts';

/** Why an order is not carried out: `unknown`: no such name; `refused`: it cannot be now; `wrong`: the question itself. */
export type Why = 'unknown' | 'refused' | 'wrong';

/** An order that is not carried out; the message is one line for whoever gave it. */
export class OrderError extends Error {
  readonly why: Why;

  constructor(why: Why, message: string) {
    super(message);
    this.why = why;
  }
}

/** What may be set of a server. `ready` takes a state back, the file's own weight a weight. */
export interface ServerOrder {
  readonly state?: 'ready' | 'drain' | 'down' | undefined;
  readonly weight?: number | undefined;
}

/** What stands of it afterwards; undefined: nothing, it goes by the file alone. */
export interface ServerSet {
  readonly server: string;
  readonly set: { readonly state?: 'drain' | 'down' | undefined; readonly weight?: number | undefined } | null;
}

/** Which flows are meant: those that fit all that is given. */
export interface FlowFilter {
  /** BACKEND/SERVER */
  readonly server?: string | undefined;
  /** "192.0.2.1", "192.0.2.1:4711", "192.0.2.0/24" */
  readonly client?: string | undefined;
  readonly frontend?: string | undefined;
}

export interface FlowList {
  readonly flows: readonly FlowRow[];
  /** There are more than were asked for. */
  readonly more: boolean;
}

export interface CaptureWanted {
  readonly filter: FlowFilter;
  readonly snaplen: number;
  /** Undefined: until whoever reads has enough. */
  readonly count: number | undefined;
}

/** What has come since the last time. */
export interface CaptureBatch {
  readonly packets: readonly CapturedPacket[];
  /** Packets, since it began, that found no room. */
  readonly lost: number;
  /** What else people should know. */
  readonly note: string | undefined;
}

/** Packets that are captured. */
export interface Captured {
  /** Resolves when there is something, or after a moment; undefined: it has ended. */
  next(): Promise<CaptureBatch | undefined>;
  /** Ends it. Again does nothing. */
  stop(): Promise<void>;
  /** Aborted when lb4 itself ends it. */
  readonly stopping: AbortSignal;
}

export interface Killed {
  readonly killed: number;
  /** Of these, how many of TCP were told by a reset, both sides. */
  readonly reset: number;
}

export interface Reloaded {
  readonly taken: boolean;
  /** What has changed, a line each. */
  readonly changes: readonly string[];
  /** Keys that change only with a restart. */
  readonly restart: readonly string[];
  /** What was set at run time, and is no more. */
  readonly forgotten: readonly string[];
  /** Why it was not taken, a line a mistake. */
  readonly errors: readonly string[];
}

/** A health check, as it was made. */
export interface PastCheck {
  /** Seconds since 1970. */
  readonly at: number;
  readonly outcome: 'pass' | 'fail' | 'unknown';
  readonly reason: string;
}

/** Why a server is as it is, by one of its protocols. */
export interface Explanation {
  readonly server: string;
  readonly protocol: string;
  readonly address: string;
  readonly state: string;
  readonly weight: number;
  readonly file_weight: number;
  readonly set: ServerSet['set'];
  readonly load: number;
  /** It has left the file. */
  readonly leaving: boolean;
  /** Of its health; null: it is not checked. */
  readonly since: number | null;
  readonly damped: boolean;
  /** The last ones, the latest first. */
  readonly checks: readonly PastCheck[];
  readonly reasons: readonly string[];
  /** What would change it. */
  readonly remedies: readonly string[];
}

/** Where a connection of a client would go, by one protocol of a frontend. */
export interface Trace {
  /** "IP:PORT" */
  readonly client: string;
  readonly frontend: string;
  readonly protocol: string;
  /** Where the frontend listens. */
  readonly to: string;
  readonly backend: string;
  readonly mode: string;
  readonly balance: string;
  /** `flow`: where the one goes on that is there; `goes`: to that server; `open`: to one of `among`; `waits`: until there is room. */
  readonly outcome: 'flow' | 'goes' | 'open' | 'waits' | 'refused';
  /** BACKEND/SERVER, and its address; null: none, or nobody can know. */
  readonly server: string | null;
  readonly address: string | null;
  readonly among: readonly string[];
  /** What leads there, one after the other. */
  readonly reasons: readonly string[];
  /** What is there of that client's address and port already. */
  readonly flow: FlowRow | null;
  /** With whom the client's address is to stay, and for how long yet. */
  readonly affinity: { readonly server: string; readonly seconds: number } | null;
  readonly servers: readonly TracedServer[];
}

export interface TracedServer {
  readonly server: string;
  readonly address: string;
  readonly state: string;
  readonly weight: number;
  readonly load: number;
  /** 0: no limit. */
  readonly maxconn: number;
  /** It may get a connection now. */
  readonly eligible: boolean;
  /** Why not. */
  readonly reasons: readonly string[];
}

export interface StatusAnswer {
  readonly version: string;
  readonly pid: number;
  readonly mode: string;
  /** The configuration's, absolute. */
  readonly file: string;
  /** Seconds. */
  readonly uptime: number;
  readonly statistics: string | null;
}

/** A running lb4. Whatever it refuses it throws, or rejects with, as an {@link OrderError}. */
export interface Orders {
  readonly source: Source;
  view(): View;
  about(): StatusAnswer;
  set(server: string, order: ServerOrder): Promise<ServerSet>;
  explain(server: string): readonly Explanation[];
  /** One for each protocol of the frontend. */
  trace(client: string, frontend: string): Promise<readonly Trace[]>;
  flows(filter: FlowFilter, limit: number): Promise<FlowList>;
  kill(filter: FlowFilter): Promise<Killed>;
  /** One at a time. */
  capture(wanted: CaptureWanted): Promise<Captured>;
  reload(): Promise<Reloaded>;
  /** What is in effect, as TOML. */
  config(): string;
}
