/** An echo request through a tunnel, as GLB's health checks send it (glb-healthcheck), or past it: with a payload that nobody can guess. */
import { randomBytes, randomInt } from 'node:crypto';
import { formatAddress, swap16 } from '../packet/address.ts';
import * as F from '../packet/fields.ts';
import { type Answer, Answers } from './answers.ts';
import { assemble, IF_EQUAL, LATER_FRAGMENT_BITS, LOAD_BYTE_X, LOAD_WORD_X, NETWORK, op } from './bpf.ts';
import { accept, drop } from './filter.ts';
import { ipv4, type PlainTarget, type Probed, probe, type TunnelTarget, wholeToThisHost, writeChecksum } from './tunnel-probe.ts';

const KEY_BYTES = 16;
const ID = randomInt(0x10000);
const SEQUENCE = 1;

/** Whether the target answers an echo request by its tunnel until `deadline` (performance.now()). Never rejects. */
export function echoThrough(target: TunnelTarget, deadline: number, signal?: AbortSignal): Promise<Probed<undefined>> {
  return echo(target, randomBytes(KEY_BYTES), deadline, signal);
}

/**
 * Whether a server answers one by no tunnel, that may not be cut, until `deadline`. Never rejects; it leaves nothing in the kernel's routing cache.
 * @param bytes its headers included, 44 to 65535
 */
export function echoOf(target: PlainTarget, bytes: number, deadline: number): Promise<Probed<undefined>> {
  const data = Buffer.alloc(bytes - F.IP_HEADER - F.ICMP_HEADER);
  randomBytes(KEY_BYTES).copy(data);
  return echo(target, data, deadline);
}

function echo(target: TunnelTarget | PlainTarget, data: Buffer, deadline: number, signal?: AbortSignal): Promise<Probed<undefined>> {
  const key = keyOf(target.destination ?? target.server, data.subarray(0, KEY_BYTES));
  return probe(target, { answers, key, packet: (source, destination) => echoRequest(source, destination, data) }, deadline, signal);
}

function keyOf(from: string, data: Uint8Array): string {
  return `${from} ${Buffer.from(data).toString('hex')}`;
}

function echoRequest(source: string, destination: string, data: Buffer): Buffer {
  const icmp = Buffer.concat([Buffer.from([F.ICMP_ECHO_REQUEST, 0, 0, 0, ID >> 8, ID & 0xff, 0, SEQUENCE]), data]);
  writeChecksum(icmp, F.ICMP_CHECKSUM);
  return ipv4(source, destination, F.ICMP, icmp);
}

/** Echo replies to this host with the number that all requests of this process have; a large one may come back in fragments, the first of which will do. */
function filter(): Uint32Array {
  const [id, sequence] = [ID << 16, SEQUENCE];
  return assemble([
    ...wholeToThisHost(F.ICMP, LATER_FRAGMENT_BITS),
    op(LOAD_BYTE_X, NETWORK),
    [IF_EQUAL, 1, 0, F.ICMP_ECHO_REPLY],
    drop(),
    op(LOAD_WORD_X, NETWORK + 4 * F.ICMP_ECHO),
    [IF_EQUAL, 1, 0, (id | sequence) >>> 0],
    drop(),
    accept(),
  ]);
}

/** The filter has seen that it is an answer. */
function read({ words, bytes }: F.Slab, at: number): Answer<undefined> | undefined {
  const ip = at >>> 2;
  const data = at + (words[ip] & 0xf) * 4 + F.ICMP_HEADER;
  if (at + swap16(words[ip] >>> 16) < data + KEY_BYTES) return undefined;
  return { key: keyOf(formatAddress(words[ip + F.IP_SOURCE]), bytes.subarray(data, data + KEY_BYTES)), says: undefined };
}

const answers = new Answers(filter(), read);
