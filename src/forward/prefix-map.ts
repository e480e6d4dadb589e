/** Client addresses that servers see as others of the same number of bits: one XOR either way (src_ip_rewrite). */

/** Addresses in native order; `from` and `to` have no bits outside `mask`. */
export interface Prefix {
  readonly mask: number;
  readonly from: number;
  readonly to: number;
}

/** What servers see of a client. */
export function shownAs(client: number, prefix: Prefix | undefined): number {
  return prefix !== undefined && (client & prefix.mask) === prefix.from ? client ^ prefix.from ^ prefix.to : client;
}
