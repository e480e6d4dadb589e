/**
 * Whether a packet of so many bytes that may not be cut reaches a server, as one that lb4 has wrapped would: what routers say of it is believed, since it quotes
 * what nobody can guess who has not seen it (RFC 5927 section 4 has the like for TCP). Of UDP these are the identification, the source's port and the checksum: 47 bits;
 * of IP in IP the identification and what is inside: 72.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseAddress } from '../packet/address.ts';
import { UDP } from '../packet/fields.ts';
import { native } from './native.ts';
import { type OuterError, OuterErrors, tooBigAbout } from './outer-errors.ts';
import { ipv4, writeChecksum } from './tunnel-probe.ts';

/** A router answers in so long, or does not. */
const PATIENCE_MS = 1000;
/** Between two looks. */
const PAUSE_MS = 20;
const [IP_HEADER, UDP_HEADER, IP_IN_IP] = [20, 8, 4];
/** Of GUE a variant, of IP a version that there is none of: who unwraps it drops it. */
const NOBODYS = 0xc0;
/** Where lb4's packets leave from, too (packet/tunnel.ts). */
const FIRST_PORT = 0x8000;

export interface ProbeTarget {
  /** This host's. */
  readonly source: string;
  readonly server: string;
  /** UDP, where it unwraps; 0: IP in IP. */
  readonly port: number;
}

/**
 * Sends one, and resolves with what a router says of it, or undefined when none has within a second. Rejects with the system's error where it is not sent, or
 * nothing can be heard.
 * @param bytes its IP header included, 36 to 65535
 */
export async function tooBigFor(target: ProbeTarget, bytes: number): Promise<OuterError | undefined> {
  const packet = mtuProbe(target, bytes);
  const errors = OuterErrors.open(tooBigAbout(packet));
  try {
    const copy = new Uint8Array(packet);
    if (native().sendPackets(copy.buffer, bytes) !== 1) throw new Error(`this host sends no packet of ${bytes} bytes to ${target.server}`);
    for (const until = performance.now() + PATIENCE_MS; ; await sleep(PAUSE_MS)) {
      // Before it looks: what has come while this thread was busy counts.
      const isLast = performance.now() > until;
      const [error] = errors.take();
      if (error !== undefined || isLast) return error;
    }
  } finally {
    errors.close();
  }
}

/** The packet, its checksums whole. */
export function mtuProbe({ source, server, port }: ProbeTarget, bytes: number): Buffer {
  const body = Buffer.alloc(bytes - IP_HEADER);
  const data = port === 0 ? body : body.subarray(UDP_HEADER);
  randomBytes(8).copy(data);
  data[0] = NOBODYS;
  if (port !== 0) {
    body.writeUInt16BE(FIRST_PORT | randomInt(FIRST_PORT), 0);
    body.writeUInt16BE(port, 2);
    body.writeUInt16BE(body.length, 4);
    writeChecksum(body, 6, pseudoHeader(source, server, body.length));
    // RFC 768: 0 would say that there is none.
    if (body.readUInt16BE(6) === 0) body.writeUInt16BE(0xffff, 6);
  }
  const packet = ipv4(source, server, port === 0 ? IP_IN_IP : UDP, body);
  // The kernel puts one of its own in place of 0, and the checksum in any case (raw(7)).
  packet.writeUInt16BE(1 + randomInt(0xffff), 4);
  packet.writeUInt16BE(0, 10);
  writeChecksum(packet.subarray(0, IP_HEADER), 10);
  return packet;
}

function pseudoHeader(source: string, destination: string, length: number): Buffer {
  const header = Buffer.alloc(12);
  header.writeInt32LE(parseAddress(source), 0);
  header.writeInt32LE(parseAddress(destination), 4);
  header[9] = UDP;
  header.writeUInt16BE(length, 10);
  return header;
}
