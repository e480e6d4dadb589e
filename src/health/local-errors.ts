/** What keeps checks from being made: told once however many servers it concerns, and once when it is over. */
export class LocalErrors {
  /** Reasons, and the servers (by id) whose last check each of them kept from being made. */
  readonly #servers = new Map<string, Set<string>>();
  readonly #reasons = new Map<string, string>();

  /** A server's check met this. Whether it is new: no other server is known to meet it. */
  meet(id: string, reason: string): boolean {
    const known = this.#servers.get(reason);
    this.#reasons.set(id, reason);
    if (known === undefined) this.#servers.set(reason, new Set([id]));
    else known.add(id);
    return known === undefined;
  }

  /** A server's check met `reason`, or nothing, from now on. Returns what was in its way, if that is now in nobody's. */
  pass(id: string, reason?: string): string | undefined {
    const last = this.#reasons.get(id);
    if (last === undefined || last === reason) return undefined;
    this.#reasons.delete(id);
    const servers = this.#servers.get(last);
    servers?.delete(id);
    if (servers === undefined || servers.size > 0) return undefined;
    this.#servers.delete(last);
    return last;
  }
}
