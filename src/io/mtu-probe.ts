/**
 * Whether a packet of so many bytes that may not be cut reaches a server, as one that lb4 has wrapped would: what routers say of it is believed, since it quotes
 * what nobody can guess who has not seen it (RFC 5927 section 4 has the like for TCP). Of UDP these are the identification, the source's port and the checksum: 47 bits;
 * of IP in IP the identification and what is inside: 72. There are some of them, each with its own: packets are lost, and routers say so no more than once a second
 * or so (Linux: net.ipv4.icmp_ratelimit).
 */
import { randomBytes, randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseAddress } from '../packet/address.ts';
import { IP_HEADER, IP_IN_IP, UDP } from '../packet/fields.ts';
import { native } from './native.ts';
import { type OuterError, OuterErrors, tooBigAbout } from './outer-errors.ts';
import { ipv4, writeChecksum } from './tunnel-probe.ts';

/** So many, one after the other: where a router is silent for a second after each error, those behind that are heard. */
const PROBES = 4;
const BETWEEN_MS = 600;
/** A router answers in so long, or does not. */
const PATIENCE_MS = 1000;
/** Between two looks. */
const PAUSE_MS = 20;
const UDP_HEADER = 8;
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

/** How they leave, and what is heard of them. */
interface ProbeMeans {
  /** Whether it left. Throws the system's error. */
  readonly send: (packet: Buffer) => boolean;
  /** Throws the system's error. */
  readonly open: (filter: Uint32Array) => Pick<OuterErrors, 'take' | 'close'>;
  readonly betweenMs: number;
  readonly patienceMs: number;
}

const MEANS: ProbeMeans = {
  send: (packet) => native().sendPackets(new Uint8Array(packet).buffer, packet.length) === 1,
  open: (filter) => OuterErrors.open(filter),
  betweenMs: BETWEEN_MS,
  patienceMs: PATIENCE_MS,
};

/**
 * Sends some until a router says something of one, and resolves with that, or undefined when none has within 2.8 seconds. Rejects with the system's error where
 * one is not sent, or nothing can be heard.
 * @param bytes its IP header included, 36 to 65535
 */
export async function tooBigFor(target: ProbeTarget, bytes: number, means: ProbeMeans = MEANS): Promise<OuterError | undefined> {
  const packets = Array.from({ length: PROBES }, () => mtuProbe(target, bytes));
  const errors = means.open(tooBigAbout(packets));
  try {
    for (const [i, packet] of packets.entries()) {
      if (!means.send(packet)) throw new Error(`this host sends no packet of ${bytes} bytes to ${target.server}`);
      const error = await firstOf(errors, i === PROBES - 1 ? means.patienceMs : means.betweenMs);
      if (error !== undefined) return error;
    }
    return undefined;
  } finally {
    errors.close();
  }
}

/** What comes within so long; undefined: nothing does. */
async function firstOf(errors: Pick<OuterErrors, 'take'>, ms: number): Promise<OuterError | undefined> {
  for (const until = performance.now() + ms; ; await sleep(PAUSE_MS)) {
    // Before it looks: what has come while this thread was busy counts.
    const isLast = performance.now() > until;
    const [error] = errors.take();
    if (error !== undefined || isLast) return error;
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
