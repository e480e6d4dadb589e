/**
 * ICMP errors that quote one of our packets go on to whoever sent the packet that provoked them: path MTU discovery
 * (RFC 1191) works through lb4. RFC 5508 section 4: the outer header follows the flow's rewrite towards the receiver,
 * the quoted one is put back to what the receiver sent.
 *
 *      router → VIP [quoted: VIP:port → server:sp]   becomes   VIP → client [quoted: client:cp → VIP:vp]
 */

import { identified, isEcho } from '../flow/echo.ts';
import type { Protocol } from '../flow/protocol.ts';
import { byNumber } from '../flow/protocols.ts';
import type { FlowTable } from '../flow/table.ts';
import * as Flow from '../layout/flow.ts';
import { swap16, swapPorts } from '../packet/address.ts';
import { finishIpHeader } from '../packet/build.ts';
import { delta, fold, sum, update } from '../packet/checksum.ts';
import * as F from '../packet/fields.ts';

/** The quoted IP header and eight bytes of what follows it (RFC 792), which begin with the ports, or end with a ping's identifier. */
const QUOTED_MIN = 8;

/** What lb4 carries of the protocol that the IP header at word `ip` names. */
export function protocolAt(words: Int32Array, ip: number): Protocol | undefined {
  return byNumber[(words[ip + F.IP_TTL] >>> 8) & 0xff];
}

/**
 * The word index of the IP header that the error at word `ip` quotes; NONE if the message is broken, no error, or quotes nothing that
 * lb4 carries.
 */
export function quotedPacket(slab: F.Slab, ip: number): number {
  const { words, bytes } = slab;
  const header = words[ip] & 0xf;
  const length = swap16(words[ip] >>> 16) - header * 4;
  const quoted = ip + header + 2;
  const quotedHeader = words[quoted] & 0xf;
  if (length < F.ICMP_HEADER + 20 || quotedHeader < 5 || length < F.ICMP_HEADER + quotedHeader * 4 + QUOTED_MIN) return Flow.NONE;
  if (!F.isIcmpError(words[ip + header] & 0xff) || protocolAt(words, quoted) === undefined) return Flow.NONE;
  if (isIcmp(words, quoted) && !isEcho(words, quoted + quotedHeader)) return Flow.NONE;
  if (words[quoted + F.IP_FRAGMENT] & 0xff1f0000) return Flow.NONE;
  if (sum(bytes, (ip + header) * 4, length) !== 0xffff) return Flow.NONE;
  return quoted;
}

/** Rewrites the error for the receiver that the flow in `slot` points at. All checksums are right afterwards. */
export function translateQuoted(slab: F.Slab, ip: number, table: FlowTable, slot: number, ttlStep = 1): void {
  const { words } = slab;
  const flow = table.words;
  const at = slot << Flow.ENTRY_SHIFT;
  const header = words[ip] & 0xf;
  const length = swap16(words[ip] >>> 16) - header * 4;
  const quoted = ip + header + 2;

  // Full NAT hides the router behind our address; DSR leaves sources alone, here too.
  if (flow[at + Flow.NEW_SOURCE] !== flow[at + Flow.SOURCE]) words[ip + F.IP_SOURCE] = flow[at + Flow.NEW_SOURCE];
  words[ip + F.IP_DESTINATION] = flow[at + Flow.NEW_DESTINATION];
  words[ip + F.IP_TTL] = words[ip + F.IP_TTL] - ttlStep;
  finishIpHeader(slab, ip);

  restoreQuoted(
    slab,
    quoted,
    length - F.ICMP_HEADER,
    flow[at + Flow.NEW_DESTINATION],
    flow[at + Flow.NEW_SOURCE],
    swapPorts(flow[at + Flow.NEW_PORTS]),
  );
  words[ip + header] = words[ip + header] & 0xffff;
  words[ip + header] = words[ip + header] | (~sum(slab.bytes, (ip + header) * 4, length) << 16);
}

/** Puts addresses and ports (back) in a packet of which `length` bytes are there, and its checksums as far as they are: one that is quoted, or a first fragment. */
export function restoreQuoted(slab: F.Slab, quoted: number, length: number, source: number, destination: number, ports: number): void {
  const { words, halves } = slab;
  const header = words[quoted] & 0xf;
  const isPing = isIcmp(words, quoted);
  const place = quoted + header + (isPing ? F.ICMP_ECHO : 0);
  const addresses = fold(delta(words[quoted + F.IP_SOURCE], source) + delta(words[quoted + F.IP_DESTINATION], destination));
  const after = isPing ? identified(words[place], ports) : ports;
  // ICMP's checksum covers no addresses.
  const change = fold((isPing ? 0 : addresses) + delta(words[place], after));
  const ttl = words[quoted + F.IP_TTL];
  words[quoted + F.IP_TTL] = (ttl & 0xffff) | (update(ttl >>> 16, addresses) << 16);
  words[quoted + F.IP_SOURCE] = source;
  words[quoted + F.IP_DESTINATION] = destination;
  words[place] = after;
  const checksum = protocolAt(words, quoted)?.checksum ?? 0;
  if (length < header * 4 + checksum + 2) return;
  const at = (quoted + header) * 2 + (checksum >>> 1);
  const isUdp = (ttl & 0xff00) === F.UDP << 8;
  // RFC 768: zero is none, and stays; one that comes out as zero is all ones.
  if (isUdp && halves[at] === 0) return;
  const checked = update(halves[at], change);
  halves[at] = isUdp && checked === 0 ? 0xffff : checked;
}

function isIcmp(words: Int32Array, ip: number): boolean {
  return ((words[ip + F.IP_TTL] >>> 8) & 0xff) === F.ICMP;
}
