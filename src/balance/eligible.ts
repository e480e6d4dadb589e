/** Which servers of a backend may be chosen. */

export interface Eligibility {
  readonly weight: number;
  readonly up: boolean;
  readonly backup: boolean;
}

/** Those that are up and weigh something; backups only when no other is left. In the order given. */
export function eligible<T extends Eligibility>(servers: readonly T[]): T[] {
  const usable = servers.filter(({ up, weight }) => up && weight > 0);
  const regular = usable.filter(({ backup }) => !backup);
  return regular.length > 0 ? regular : usable;
}
