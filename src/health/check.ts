/** How one check ended. `unknown` says nothing about the server: the check could not be made from here. */
export interface CheckResult {
  outcome: 'pass' | 'fail' | 'unknown';
  /** For people: "connected in 0.3 ms", "connection refused". */
  reason: string;
}

/** One way to look at a server: TCP today, HTTP or a command tomorrow, each in a file of its own. */
export interface Check {
  /** Never rejects; resolves within the check's own timeout, and soon after `signal` is aborted. */
  run(signal: AbortSignal): Promise<CheckResult>;
}

/** One server as one frontend reaches it. */
export interface Target {
  /** The caller's name for it, unique in a set. */
  id: string;
  /** Dotted IPv4. */
  address: string;
  port: number;
  /** The frontend's listen address; checks then leave from it and a port in 32768–33767. Else the kernel picks both. */
  sourceAddress?: string | undefined;
  /** From the start of one check to the start of the next, in ms, ±10 %. Above 0. */
  intervalMs: number;
  /** One check fails after this many ms. Default 3000, Convey's. */
  timeoutMs?: number;
  /** So many passes in a row bring a server up. Default 1. */
  rise?: number;
  /** So many failures in a row take it down. Default 1. */
  fall?: number;
}
