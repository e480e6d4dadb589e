/** What a protocol tells the core of itself: one file each. */

export interface Protocol {
  /** As iptables(8), nft(8) and /etc/protocols have it. */
  readonly name: string;
  /** In the IP header. */
  readonly number: number;
  /** Where its checksum stands: bytes behind the beginning of its header. */
  readonly checksum: number;
  /** The LIFE word after a packet from the client, or from the server (`reply`), that has shown `shown`. */
  next(life: number, shown: number, reply: boolean): number;
  /** The idle timeout of a connection in milliseconds, by its LIFE word, from a table by state. */
  timeoutOf(table: Int32Array, life: number): number;
}
