/**
 * What a protocol tells the core of itself: one file each, and a line in protocols.ts. Words of a packet are as layout/frames.ts says,
 * `transport` and `ip` the word indexes of its headers; `at` and `other` those of its flow and of the opposite one, which is negative where
 * there is none. Nothing here allocates or throws.
 */
import type { Slab } from '../packet/fields.ts';
import type { Segment } from './evidence.ts';

/** Idle timeouts of connections in milliseconds. */
export interface Timeouts {
  readonly syn: number;
  /** RFC 5382 REQ-5: at least 2 hours 4 minutes. */
  readonly established: number;
  readonly fin: number;
  readonly timeWait: number;
  readonly closed: number;
  /** UDP: while one side alone has been heard, and once both have (RFC 4787 REQ-5: at least 2 minutes). */
  readonly udp: number;
  readonly udpStream: number;
  /** Pings. */
  readonly icmp: number;
}

export interface Protocol {
  /** As iptables(8), nft(8) and /etc/protocols have it. */
  readonly name: string;
  /** In the IP header. */
  readonly number: number;
  /** Where its checksum stands: bytes behind the beginning of its header. */
  readonly checksum: number;
  /** Whether its header begins with two ports. */
  readonly hasPorts: boolean;
  /**
   * Whether its packets stand for themselves. Then an answer proves no client (whoever forges a query's source is answered as well), so its flows may always
   * make way for others; none need come, so silence says little of a server (service/silence.ts); and what belongs to no flow any more is not refused.
   */
  readonly isDatagram: boolean;

  /**
   * Pass 1: the DETAIL word (layout/frames.ts) of a packet that has `length` bytes from its transport header on; 0 where they are no whole,
   * plausible one. Only what may have been captured is read.
   */
  describe(words: Int32Array, transport: number, length: number, ip: number): number;

  /** Whether a packet asks for a new connection. */
  opens(words: Int32Array, transport: number): boolean;
  /** Whether it is a refusal itself, which nobody may answer. */
  refuses(words: Int32Array, transport: number): boolean;
  /** Turns it into the refusal that answers it, back to its sender (packet/build.ts). Returns the length from the IP header on, in bytes. */
  refuse(slab: Slab, ip: number): number;
  /** Whether its checksum is right. */
  isIntact(slab: Slab, ip: number): boolean;
  /** What `begin` is to be told of the packet that a connection begins with. */
  firstOf(words: Int32Array, transport: number): number;
  /** Writes its flags and numbers into `segment`. */
  read(words: Int32Array, transport: number, segment: Segment): void;

  /** A new connection's flows: what later packets are judged by. */
  begin(flows: Int32Array, at: number, other: number, first: number): void;
  /** What a packet shows (evidence.ts) of the connection with the LIFE word `life`; 0: nothing. */
  weigh(flows: Int32Array, at: number, other: number, life: number, segment: Segment): number;
  /**
   * Whether a packet that an ICMP error quotes may be under way (RFC 5927 section 4): `quoted` is the word index of its transport header, of which eight
   * bytes are there, `at` the flow of the opposite direction, `other` its own.
   */
  isUnderWay(words: Int32Array, quoted: number, flows: Int32Array, at: number, other: number): boolean;
  /** Writes down what it has shown that later ones are judged by. Before BYTES counts its payload. */
  remember(flows: Int32Array, at: number, other: number, shown: number, segment: Segment): void;
  /** Now and then, of an established connection's client: forgets what matters only while something is in flight, after `quiet` ms. */
  settle(flows: Int32Array, at: number, other: number, now: number, quiet: number): void;

  /** The LIFE word (life.ts) after a packet from the client, or from the server (`reply`), that has shown `shown`. */
  next(life: number, shown: number, reply: boolean): number;
  /** Idle timeouts by state. */
  timeoutTable(timeouts: Timeouts): Int32Array;
  /** That of a connection in milliseconds, by its LIFE word, from such a table. */
  timeoutOf(table: Int32Array, life: number): number;
}
