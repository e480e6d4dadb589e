/**
 * Every way a packet can end. Each packet ends in exactly one, counted in `lb4_packets_total{verdict}` and under
 * `lb4.verdicts` in /stats. The order is the counters' layout in shared memory: append only.
 */
const names = [
  // Forwarded.
  'forwarded', // found in the flow table and rewritten
  'opened', // the SYN of a new connection
  'adopted', // DSR: a segment of no known connection, sent where the hash says
  'icmpTranslated', // an ICMP error handed on to the side that owns the flow
  // Answered.
  'resetUnknown', // a segment of no known connection: RST
  'resetNoServer', // a SYN while no server is up: RST
  'resetNoPort', // a SYN while the server chosen, and up to 15 others, have no port left: RST
  'timeExceeded', // TTL ended here: ICMP type 11
  'tooBig', // larger than the next hop's MTU: ICMP type 3 code 4
  // Dropped.
  'dropMalformed', // lengths or header fields contradict each other
  'dropTruncated', // did not fit its receive slot
  'dropFragment', // a fragment: no ports to go by
  'dropNotOurs', // matches no frontend and no server
  'dropStray', // a reset of no known connection: never answered; DSR: any segment of one while no server is up
  'dropRateLimited', // should have been answered, or, an ICMP error, handed on, but a limit is reached: of all, of its sender or of its flow
  'resetTableFull', // a SYN for which there is no room in the flow table: RST
  'dropNoRoute', // this host has no route to the server, or a blackhole; or nobody answers ARP there (L2 DSR: yet)
  'dropIcmp', // an ICMP error that quotes no packet of ours, or is broken
  // Added later.
  'resetFull', // a SYN while frontend or servers have as many connections as their maxconn allows: RST
  'stateless', // DSR: no room in the flow table, sent where the hash says
  // Between interfaces (crossing.ts).
  'crossed', // not a service's: to the other side, as it came
  'flooded', // the same, to every frontend port: nobody knows behind which one it belongs
  'dropNoPort', // the port that it is for is down or gone
  'dropLoop', // a frame to many that came by another port a moment ago: the two sides are joined elsewhere
  'passed', // nat = "destination": of a server, to somebody whom it does not serve by way of lb4: sent on as it came
  'resetClash', // nat = "destination": a SYN whose answers nobody could tell from another connection's: RST
  'echoAnswered', // a ping of a frontend's address, answered here
  'fragmentFollowed', // a datagram's fragment that the kernel has not put together: by its flow, or where the first one went
  'dropOtherLink', // nat = "destination": it says that a server sent it, or concerns what one was sent, and came by a link of clients alone
  // Between interfaces.
  'dropSameSide', // for a station behind the port that it came by
  'dropTooLong', // longer than the MTU of the port that it is for
  'dropIcmpForged', // an ICMP error that quotes of a live connection what is not under way
  'dropFirstSyn', // while SYNs flood: one that has not come before (syn-guard.ts)
  // Access control.
  'denied', // a first packet of a client that the frontend's lists keep out
  'limited', // one of a client that has opened as many connections, or as often, as its source may
] as const;

export type VerdictName = (typeof names)[number];

/** Verdict names in the order of their numbers. */
export const verdictNames: readonly VerdictName[] = names;

/** The number of each verdict. */
export const Verdict = Object.fromEntries(names.map((name, number) => [name, number])) as {
  readonly [name in VerdictName]: number;
};
