/**
 * Choosing a server. A scheduler is made for a fixed set of servers that may be chosen (up, weight above 0) and made
 * anew when the set changes; it knows nothing of packets.
 */

/** A server as a scheduler sees it. */
export interface Candidate {
  /** What names it everywhere and always ("192.0.2.7:80"): hashing schedulers must agree between processes and hosts. */
  readonly name: string;
  /** 1 … 65535. */
  readonly weight: number;
}

export interface Scheduler {
  /**
   * The position of the chosen server among the candidates.
   * @param address the client's address, any int32
   * @param port the client's port, any 16 bits
   */
  pick(address: number, port: number): number;
}

/** Makes a scheduler; `candidates` is never empty. */
export type SchedulerFactory = (candidates: readonly Candidate[]) => Scheduler;
