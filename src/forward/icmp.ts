/**
 * ICMP errors that quote one of our packets go on to whoever sent the packet that provoked them: path MTU discovery
 * (RFC 1191) works through lb4. RFC 5508 section 4: the outer header follows the flow's rewrite towards the receiver,
 * the quoted one is put back to what the receiver sent.
 *
 *      router → VIP [quoted: VIP:port → server:sp]   becomes   VIP → client [quoted: client:cp → VIP:vp]
 */

import type { FlowTable } from '../flow/table.ts';
import * as Flow from '../layout/flow.ts';
import { swap16, swapPorts } from '../packet/address.ts';
import { finishIpHeader } from '../packet/build.ts';
import { delta, fold, sum, update } from '../packet/checksum.ts';
import * as F from '../packet/fields.ts';

/** The quoted IP header and eight bytes of what follows it (RFC 792): the ports and the sequence number. */
const QUOTED_TCP_MIN = 8;
const ICMP_HEADER = 8;
/** Where the TCP checksum ends. */
const QUOTED_TCP_CHECKSUM_END = 18;

/**
 * The word index of the TCP segment's IP header that the error at word `ip` quotes; NONE if the message is broken, no error, or
 * quotes no ports.
 */
export function quotedSegment(slab: F.Slab, ip: number): number {
  const { words, bytes } = slab;
  const header = words[ip] & 0xf;
  const length = swap16(words[ip] >>> 16) - header * 4;
  const quoted = ip + header + 2;
  const quotedHeader = words[quoted] & 0xf;
  if (length < ICMP_HEADER + 20 || quotedHeader < 5 || length < ICMP_HEADER + quotedHeader * 4 + QUOTED_TCP_MIN) return Flow.NONE;
  if (!isError(words[ip + header] & 0xff) || ((words[quoted + F.IP_TTL] >>> 8) & 0xff) !== F.TCP) return Flow.NONE;
  if (words[quoted + F.IP_FRAGMENT] & 0xff1f0000) return Flow.NONE;
  if (sum(bytes, (ip + header) * 4, length) !== 0xffff) return Flow.NONE;
  return quoted;
}

/** Rewrites the error for the receiver that the flow in `slot` points at. All checksums are right afterwards. */
export function translateQuoted(slab: F.Slab, ip: number, table: FlowTable, slot: number): void {
  const { words } = slab;
  const flow = table.words;
  const at = slot << Flow.ENTRY_SHIFT;
  const header = words[ip] & 0xf;
  const length = swap16(words[ip] >>> 16) - header * 4;
  const quoted = ip + header + 2;

  // Full NAT hides the router behind our address; DSR leaves sources alone, here too.
  if (flow[at + Flow.NEW_SOURCE] !== flow[at + Flow.SOURCE]) words[ip + F.IP_SOURCE] = flow[at + Flow.NEW_SOURCE];
  words[ip + F.IP_DESTINATION] = flow[at + Flow.NEW_DESTINATION];
  words[ip + F.IP_TTL] = words[ip + F.IP_TTL] - 1;
  finishIpHeader(slab, ip);

  restoreQuoted(
    slab,
    quoted,
    length - ICMP_HEADER,
    flow[at + Flow.NEW_DESTINATION],
    flow[at + Flow.NEW_SOURCE],
    swapPorts(flow[at + Flow.NEW_PORTS]),
  );
  words[ip + header] = words[ip + header] & 0xffff;
  words[ip + header] = words[ip + header] | (~sum(slab.bytes, (ip + header) * 4, length) << 16);
}

/** Puts addresses and ports back in a quoted packet of `length` bytes, and its checksums as far as they are quoted. */
function restoreQuoted(slab: F.Slab, quoted: number, length: number, source: number, destination: number, ports: number): void {
  const { words } = slab;
  const header = words[quoted] & 0xf;
  const tcp = quoted + header;
  const addresses = fold(delta(words[quoted + F.IP_SOURCE], source) + delta(words[quoted + F.IP_DESTINATION], destination));
  const all = fold(addresses + delta(words[tcp], ports));
  const ttl = words[quoted + F.IP_TTL];
  words[quoted + F.IP_TTL] = (ttl & 0xffff) | (update(ttl >>> 16, addresses) << 16);
  words[quoted + F.IP_SOURCE] = source;
  words[quoted + F.IP_DESTINATION] = destination;
  words[tcp] = ports;
  if (length < header * 4 + QUOTED_TCP_CHECKSUM_END) return;
  const check = words[tcp + F.TCP_CHECKSUM];
  words[tcp + F.TCP_CHECKSUM] = (check & ~0xffff) | update(check & 0xffff, all);
}

function isError(type: number): boolean {
  return type === F.ICMP_UNREACHABLE || type === F.ICMP_TIME_EXCEEDED || type === F.ICMP_PARAMETER_PROBLEM;
}
