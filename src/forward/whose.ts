/**
 * Whose a packet is, for one who looks on (engine/capture.ts): its key in the flow table, its connection, and where there is none the frontend that
 * it is sent to. An error belongs to the connection of the packet that it quotes. Nothing here is on the way of a packet.
 */
import { echo, echoPorts, isEcho } from '../flow/echo.ts';
import type { Records } from '../flow/records.ts';
import type { FlowTable } from '../flow/table.ts';
import * as C from '../layout/connection.ts';
import * as Flow from '../layout/flow.ts';
import * as D from '../layout/frames.ts';
import { destinationPort, swap16, swapPorts } from '../packet/address.ts';
import * as F from '../packet/fields.ts';
import { protocolAt, quotedPacket } from './icmp.ts';
import type { Services } from './services.ts';

/** Words of a key: source, destination, ports word, as in a packet; and the protocol, 0 where there are no ports to go by. */
export const KEY = 4;
export const [KEY_SOURCE, KEY_DESTINATION, KEY_PORTS, KEY_PROTOCOL] = [0, 1, 2, 3] as const;

/** An owner (layout/connection.ts: OWNER) of which only the frontend is known, or not even that. */
export const NO_SERVER = 0xffff;
export const NO_OWNER = -1;

/** Where what is no whole IPv4 packet comes from, and goes to. */
const NOWHERE = 0;

export interface WhoseParts {
  readonly slab: F.Slab;
  readonly frames: Int32Array;
  readonly table: FlowTable;
  readonly records: Records;
  readonly services: Services;
}

export class Whose {
  readonly #parts: WhoseParts;

  constructor(parts: WhoseParts) {
    this.#parts = parts;
  }

  /** Writes the key of the frame at word `f` of the descriptors to `keys`, from `at` on. */
  read(f: number, keys: Int32Array, at: number): void {
    const { slab, frames } = this.#parts;
    const { words } = slab;
    const ip = frames[f + D.OFFSET] >>> 2;
    const header = words[ip] & 0xf;
    const length = swap16(words[ip] >>> 16);
    const isWhole =
      (frames[f + D.FLAGS] & (D.FLAG_FOREIGN | D.FLAG_TRUNCATED)) === 0 &&
      (words[ip] & 0xf0) === 0x40 &&
      header >= 5 &&
      length >= header * 4 &&
      length <= frames[f + D.LENGTH];
    keys[at + KEY_SOURCE] = isWhole ? words[ip + F.IP_SOURCE] : NOWHERE;
    keys[at + KEY_DESTINATION] = isWhole ? words[ip + F.IP_DESTINATION] : NOWHERE;
    keys[at + KEY_PROTOCOL] = 0;
    const hasPorts = isWhole && length >= header * 4 + F.ICMP_HEADER && (words[ip + F.IP_FRAGMENT] & F.FRAGMENT_OFFSET) === 0;
    if (hasPorts) this.#readPorts(ip, keys, at);
  }

  #readPorts(ip: number, keys: Int32Array, at: number): void {
    const { slab } = this.#parts;
    const { words } = slab;
    const protocol = protocolAt(words, ip);
    const transport = ip + (words[ip] & 0xf);
    if (protocol === undefined) return;
    if (protocol.number !== F.ICMP || isEcho(words, transport)) {
      keys[at + KEY_PORTS] = protocol.number === F.ICMP ? echoPorts(words, transport) : words[transport];
      keys[at + KEY_PROTOCOL] = protocol.number;
      return;
    }
    const quoted = quotedPacket(slab, ip);
    if (quoted === Flow.NONE) return;
    // The flow of the opposite direction, which the error goes by.
    const inner = quoted + (words[quoted] & 0xf);
    const number = (words[quoted + F.IP_TTL] >>> 8) & 0xff;
    keys[at + KEY_SOURCE] = words[quoted + F.IP_DESTINATION];
    keys[at + KEY_DESTINATION] = words[quoted + F.IP_SOURCE];
    keys[at + KEY_PORTS] = swapPorts(number === F.ICMP ? echoPorts(words, inner) : words[inner]);
    keys[at + KEY_PROTOCOL] = number;
  }

  /** The slot of the live flow with the key at `at`, NONE: there is none. */
  slotOf(keys: Int32Array, at: number): number {
    const protocol = keys[at + KEY_PROTOCOL];
    if (protocol === 0) return Flow.NONE;
    return this.#parts.table.find(keys[at + KEY_SOURCE], keys[at + KEY_DESTINATION], keys[at + KEY_PORTS], Flow.live(protocol));
  }

  /** Frontend (above) and server of what has that key, whose flow is in `slot`; NO_SERVER, or NO_OWNER, as far as nobody knows. */
  ownerOf(slot: number, keys: Int32Array, at: number): number {
    const { table, records, services } = this.#parts;
    if (slot !== Flow.NONE) return records.words[(table.words[(slot << Flow.ENTRY_SHIFT) + Flow.CONNECTION] << C.RECORD_SHIFT) + C.OWNER];
    const protocol = keys[at + KEY_PROTOCOL];
    if (protocol === 0) return NO_OWNER;
    const port = protocol === echo.number ? 0 : destinationPort(keys[at + KEY_PORTS]);
    const frontend = services.frontendAt(keys[at + KEY_DESTINATION], port, protocol);
    return frontend === undefined ? NO_OWNER : (frontend.index << 16) | NO_SERVER;
  }
}
