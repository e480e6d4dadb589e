/**
 * What a frame is, found once and left in its descriptor: pass 3 asks for no protocol. Whatever is not whole and plausible is left to
 * the slow path, which says what is wrong with it.
 */
import { byNumber, protocols } from '../flow/protocols.ts';
import * as Frame from '../layout/frames.ts';
import * as Field from '../packet/fields.ts';

// Copied into this module: an imported binding is a load at each use (pipeline.ts).
const { LENGTH, FLAGS, FLAG_TRUNCATED, FLAG_FOREIGN, FLAG_BIG, DETAIL } = Frame;
/** What is no whole IPv4 packet, whatever stands in it. */
const NOT_WHOLE = FLAG_TRUNCATED | FLAG_FOREIGN;
const { IP_FRAGMENT, FRAGMENT_MASK, IP_TTL } = Field;
// The first of the table, which most packets are of, is compared with and called by name, and so becomes part of the loop: to look each
// packet's protocol up costs 3 % at 1,000 connections (bench/core). A second one leaves that as it is; its own packets pay the look-up,
// and a call.
const [{ number, describe }] = protocols;
const FIRST = number << 8;
/** To a bit of CONTROL that no protocol sets. */
const BIG_SHIFT = 17;

/**
 * Describes the frame at word `f` of the descriptors, whose IP header is at word `ip`. Returns the word index of its transport header, which begins with the ports; 0, and
 * nothing written, where it can have no flow.
 */
export function parse(words: Int32Array, frames: Int32Array, f: number, ip: number): number {
  const first = words[ip];
  const header = first & 0xf;
  const length = (first >>> 24) | ((first >>> 8) & 0xff00);
  const kind = words[ip + IP_TTL] & 0xff00;
  if (
    (first & 0xf0) !== 0x40 ||
    header < 5 ||
    length > frames[f + LENGTH] ||
    (words[ip + IP_FRAGMENT] & FRAGMENT_MASK) !== 0 ||
    (frames[f + FLAGS] & NOT_WHOLE) !== 0
  )
    return 0;
  const transport = ip + header;
  const rest = length - (header << 2);
  const detail = kind === FIRST ? describe(words, transport, rest, ip) : describeOther(kind >>> 8, words, transport, rest, ip);
  if (detail === 0) return 0;
  frames[f + DETAIL] = detail | ((frames[f + FLAGS] & FLAG_BIG) << BIG_SHIFT);
  return transport;
}

function describeOther(protocol: number, words: Int32Array, transport: number, length: number, ip: number): number {
  return byNumber[protocol]?.describe(words, transport, length, ip) ?? 0;
}
