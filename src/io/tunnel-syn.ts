/** A SYN through a tunnel, to tell by what answers it how large segments a server lets its clients send (RFC 9293 section 3.7.1). */
import { randomInt } from 'node:crypto';
import { CHECK_PORTS } from '../layout/ports.ts';
import { formatAddress, parseAddress, swap16, swap32 } from '../packet/address.ts';
import * as F from '../packet/fields.ts';
import { type Answer, Answers } from './answers.ts';
import { AND, assemble, IF_EQUAL, LOAD_BYTE_X, NETWORK, op } from './bpf.ts';
import { accept, drop } from './filter.ts';
import { ipv4, type Probed, probe, type TunnelTarget, wholeToThisHost, writeChecksum } from './tunnel-probe.ts';

/** Bytes of payload in a segment that the answer allows; undefined: it is a reset, for nobody listens there. */
export interface SynAnswer {
  readonly mss: number | undefined;
}

/** Where the answer does not say (RFC 9293 section 3.7.1). */
const DEFAULT_MSS = 536;
const [END, NOTHING, MSS] = [0, 1, 2];
const OFFER = [MSS, 4, 0x05, 0xb4];
const FLAGS_BYTE = 13;

/** Opens no connection: what answers is reset at once, by the tunnel. @param to the port of the target's destination */
export function synThrough(target: TunnelTarget, to: number, deadline: number): Promise<Probed<SynAnswer>> {
  const local = randomInt(CHECK_PORTS.first, CHECK_PORTS.last + 1);
  const number = randomInt(2 ** 32);
  const after = (number + 1) >>> 0;
  const key = keyOf(target.destination ?? target.server, to, local, after);
  const question = {
    answers,
    key,
    packet: (source: string, destination: string) =>
      segment({ source, destination, ports: [local, to], number, flags: F.SYN, options: OFFER }),
    thanks: (source: string, destination: string) =>
      segment({ source, destination, ports: [local, to], number: after, flags: F.RST, options: [] }),
  };
  return probe(target, question, deadline);
}

function keyOf(from: string, port: number, local: number, acknowledged: number): string {
  return `${from}:${port} ${local} ${acknowledged}`;
}

interface Segment {
  readonly source: string;
  readonly destination: string;
  readonly ports: readonly [number, number];
  readonly number: number;
  readonly flags: number;
  readonly options: readonly number[];
}

function segment({ source, destination, ports: [from, to], number, flags, options }: Segment): Buffer {
  const tcp = Buffer.alloc(20 + options.length);
  tcp.writeUInt16BE(from, 0);
  tcp.writeUInt16BE(to, 2);
  tcp.writeUInt32BE(number, 4);
  tcp.set([(tcp.length / 4) << 4, flags, 0xff, 0xff], 12);
  tcp.set(options, 20);
  const pseudo = Buffer.alloc(12);
  pseudo.writeInt32LE(parseAddress(source), 0);
  pseudo.writeInt32LE(parseAddress(destination), 4);
  pseudo.set([F.TCP, 0, tcp.length], 9);
  writeChecksum(tcp, F.CHECKSUM_PLACES[F.TCP], pseudo);
  return ipv4(source, destination, F.TCP, tcp);
}

/** Answers to SYNs that come to this host: with SYN or RST, and ACK. */
function filter(): Uint32Array {
  return assemble([
    ...wholeToThisHost(F.TCP),
    op(LOAD_BYTE_X, NETWORK + FLAGS_BYTE),
    op(AND, F.SYN | F.RST | F.ACK),
    [IF_EQUAL, 2, 0, F.SYN | F.ACK],
    [IF_EQUAL, 1, 0, F.RST | F.ACK],
    drop(),
    accept(),
  ]);
}

function read({ words, bytes }: F.Slab, at: number): Answer<SynAnswer> | undefined {
  const ip = at >>> 2;
  const header = words[ip] & 0xf;
  const tcp = ip + header;
  const end = (tcp << 2) + ((words[tcp + F.TCP_FLAGS] >>> 4) & 0xf) * 4;
  if (end > at + swap16(words[ip] >>> 16)) return undefined;
  const [from, to] = [swap16(words[tcp] & 0xffff), swap16(words[tcp] >>> 16)];
  const acknowledged = swap32(words[tcp + F.TCP_ACKNOWLEDGMENT]) >>> 0;
  const isReset = (bytes[(tcp << 2) + FLAGS_BYTE] & F.RST) !== 0;
  const key = keyOf(formatAddress(words[ip + F.IP_SOURCE]), from, to, acknowledged);
  return { key, says: { mss: isReset ? undefined : mssIn(bytes.subarray((tcp << 2) + 20, end)) } };
}

/** Of a SYN's options. */
function mssIn(options: Uint8Array): number {
  for (let i = 0; i + 1 < options.length && options[i] !== END; ) {
    const [kind, length] = options.subarray(i, i + 2);
    if (kind === MSS && i + 3 < options.length) return (options[i + 2] << 8) | options[i + 3];
    i += kind === NOTHING ? 1 : Math.max(2, length);
  }
  return DEFAULT_MSS;
}

const answers = new Answers(filter(), read);
