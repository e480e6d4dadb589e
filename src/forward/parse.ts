/**
 * What a frame is, found once and left in its descriptor: pass 3 asks for no protocol. Whatever is not whole and plausible is left to
 * the slow path, which says what is wrong with it.
 */
import { tcp as TCP } from '../flow/tcp.ts';
import * as Frame from '../layout/frames.ts';
import * as Field from '../packet/fields.ts';

// Copied into this module: an imported binding is a load at each use (pipeline.ts).
const { OFFSET, LENGTH, FLAGS, FLAG_TRUNCATED, FLAG_BIG, DETAIL, CHECKSUM_SHIFT } = Frame;
const { IP_FRAGMENT, FRAGMENT_MASK, IP_TTL, TCP_FLAGS, FIN, SYN, RST, ACK } = Field;
const PROTOCOL = TCP.number << 8;
const CHECKSUM = (TCP.checksum >> 1) << CHECKSUM_SHIFT;
/** With only the last of these a segment asks for nothing but its rewrite. */
const CONTROLS = (FIN | SYN | RST | ACK) << 8;
const PLAIN = ACK << 8;
/** To a bit of CONTROL that no TCP flag of these has. */
const BIG_SHIFT = 17;

/**
 * Describes the frame at word `f` of the descriptors. Returns the word index of its transport header, which begins with the ports; 0, and
 * nothing written, where it can have no flow.
 */
export function parse(words: Int32Array, frames: Int32Array, f: number): number {
  const ip = frames[f + OFFSET] >>> 2;
  const first = words[ip];
  const header = first & 0xf;
  const length = (first >>> 24) | ((first >>> 8) & 0xff00);
  const transport = ip + header;
  const control = words[transport + TCP_FLAGS];
  const headers = (header + ((control >>> 4) & 0xf)) << 2;
  if (
    (first & 0xf0) !== 0x40 ||
    header < 5 ||
    headers < (header << 2) + 20 ||
    length < headers ||
    length > frames[f + LENGTH] ||
    (words[ip + IP_FRAGMENT] & FRAGMENT_MASK) !== 0 ||
    (words[ip + IP_TTL] & 0xff00) !== PROTOCOL ||
    (frames[f + FLAGS] & FLAG_TRUNCATED) !== 0
  )
    return 0;
  frames[f + DETAIL] =
    CHECKSUM | (((control & CONTROLS) ^ PLAIN) << 8) | ((frames[f + FLAGS] & FLAG_BIG) << BIG_SHIFT) | (length - headers);
  return transport;
}
