/**
 * A packet of this host's through a tunnel, of GUE without further hops or of IP in IP, or by none, and whether it is answered. Only who unwraps it answers, and past the
 * tunnel, as servers answer clients.
 *
 *     IPv4 | UDP → server:port | GUE 8 | IPv4 us → whom it is for | …
 *     IPv4 → server                    | IPv4 us → whom it is for | …
 */
import { createSocket } from 'node:dgram';
import { formatAddress, parseAddress } from '../packet/address.ts';
import { sum } from '../packet/checksum.ts';
import * as F from '../packet/fields.ts';
import type { Answers } from './answers.ts';
import {
  FRAGMENT,
  FRAGMENT_BITS,
  headerLength,
  IF_BITS,
  IF_EQUAL,
  type Instruction,
  LOAD_BYTE,
  LOAD_HALF,
  NETWORK,
  op,
  PROTOCOL,
  TO_X,
} from './bpf.ts';
import { drop, toThisHost } from './filter.ts';
import { native } from './native.ts';
import { routeOnce } from './route-once.ts';

export interface TunnelTarget {
  readonly server: string;
  /** UDP, where it unwraps; 0: IP in IP. */
  readonly port: number;
  /** Of the outer packet; left out: the kernel's choice. */
  readonly localAddress?: string | undefined;
  readonly localPort?: number | undefined;
  /** Whom the packet inside is for, an address that the server has; left out: its own. */
  readonly destination?: string | undefined;
}

/** The same without a tunnel. */
export interface PlainTarget extends Pick<TunnelTarget, 'server' | 'localAddress'> {
  readonly port?: undefined;
  readonly destination?: undefined;
}

/**
 * `silent`: maybe with what an ICMP error said, which anybody can forge; `unheard`: this host had no room for some answers meanwhile, maybe its own among them;
 * `unsent`: this host's kernel would not.
 */
export type Probed<T> =
  | { readonly end: 'answered'; readonly ms: number; readonly says: T }
  | { readonly end: 'silent'; readonly error: NodeJS.ErrnoException | undefined }
  | { readonly end: 'unheard' }
  | { readonly end: 'unsent'; readonly error: NodeJS.ErrnoException };

/** What is asked, and how its answer is known. */
export interface Question<T> {
  readonly answers: Answers<T>;
  readonly key: string;
  /** The packet inside, from this host's address that the outer one leaves from. */
  readonly packet: (source: string, destination: string) => Buffer;
  /** What is sent once it is answered, as `packet`. */
  readonly thanks?: (source: string, destination: string, says: T) => Buffer;
}

/** A datagram may be lost: so often it is sent, at equal distances. */
const SENDINGS = 3;
/** Variant 0, one word of private data, IPv4 inside. */
const GUE_HEADER = Buffer.from([1, 4, 0, 0, 0, 0, 0, 0]);
/** glb-healthcheck's. */
const TTL = 255;

/** What packets leave by. */
interface Line {
  /** This host's address that they come from. */
  readonly source: string;
  /** Wraps the packet and sends it; `done` gets the system's error. */
  readonly send: (packet: Buffer, done: (error?: Error | null) => void) => void;
  readonly close: () => void;
}

/**
 * Resolves when it is answered, or silent when `deadline` (performance.now()) has come or `signal` is aborted. Where others are asked, too, it waits for its turn
 * (answers.ts), and the deadline comes later by that. Never rejects.
 */
export async function probe<T>(
  target: TunnelTarget | PlainTarget,
  question: Question<T>,
  deadline: number,
  signal?: AbortSignal,
): Promise<Probed<T>> {
  let error: NodeJS.ErrnoException | undefined;
  const note = (told?: Error | null) => (error = told ?? error);
  let line: Line | undefined;
  try {
    if (target.port === undefined) line = rawTo(target, (packet) => packet);
    else if (target.port === 0) line = rawTo(target, (packet, from) => ipv4(from, target.server, F.IP_IN_IP, packet));
    else line = await gueTo(target, note);
    const end = await ask(line, target.destination ?? target.server, question, { deadline, signal, note });
    return end === 'unanswered' ? { end: 'silent', error } : end;
  } catch (failure) {
    return { end: 'unsent', error: failure as NodeJS.ErrnoException };
  } finally {
    line?.close();
  }
}

/** @param note gets what ICMP errors say */
async function gueTo({ server, port, localAddress, localPort = 0 }: TunnelTarget, note: (error: Error) => void): Promise<Line> {
  const socket = createSocket('udp4');
  const close = () => {
    socket.removeAllListeners('error').on('error', () => {});
    socket.close();
  };
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind(localPort, localAddress, () => {
        socket.connect(port, server, (error?: Error) => (error === undefined ? resolve() : reject(error)));
      });
    });
  } catch (error) {
    close();
    throw error;
  }
  socket.removeAllListeners('error').on('error', note);
  return { source: socket.address().address, send: (packet, done) => socket.send(Buffer.concat([GUE_HEADER, packet]), done), close };
}

/**
 * By the kernel's routing alone: nobody hears their ICMP errors, the kernel included, which learns no path MTU from them (native/raw_socket.cc). Throws where there is no
 * way to the server, or from that address.
 */
function rawTo({ server, localAddress }: TunnelTarget | PlainTarget, wrap: (packet: Buffer, from: string) => Buffer): Line {
  const { kind, source } = routeOnce(parseAddress(server), localAddress === undefined ? 0 : parseAddress(localAddress));
  if (kind !== 'unicast')
    throw Object.assign(new Error(`no way to ${server}: ${kind}`), { code: kind === 'source' ? 'EADDRNOTAVAIL' : 'ENETUNREACH' });
  const from = localAddress ?? formatAddress(source);
  const send: Line['send'] = (inner, done) => {
    const packet = new Uint8Array(wrap(inner, from));
    try {
      done(native().sendPackets(packet.buffer, packet.length) === 1 ? null : new Error(`the kernel sends no such packet to ${server}`));
    } catch (error) {
      done(error as Error);
    }
  };
  return { source: from, send, close: () => {} };
}

interface Patience {
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
  /** Gets the errors of what was sent. */
  readonly note: (error?: Error | null) => void;
}

/** Throws where no socket to hear answers by is to be had. */
async function ask<T>(
  line: Line,
  destination: string,
  { answers, key, packet, thanks }: Question<T>,
  { deadline, signal, note }: Patience,
): Promise<Exclude<Probed<T>, { readonly end: 'silent' }> | 'unanswered'> {
  const ended = new AbortController();
  let started = 0;
  const request = packet(line.source, destination);
  const send = () => {
    started ||= performance.now();
    line.send(request, note);
  };
  const answered = answers.hear(key).then((says) => ({ end: 'answered' as const, ms: performance.now() - started, says }));
  const lost = answers.lost();
  try {
    const end = await Promise.race([
      answered,
      over({ answers, key, send, left: deadline - performance.now(), signal, ended: ended.signal }),
    ]);
    if (end === 'over') return answers.lost() > lost ? { end: 'unheard' } : 'unanswered';
    if (thanks !== undefined) await sent(line, thanks(line.source, destination, end.says));
    return end;
  } finally {
    ended.abort();
    answers.forget(key);
  }
}

interface Sendings<T> {
  readonly answers: Answers<T>;
  readonly key: string;
  readonly send: () => void;
  /** Milliseconds for all of them, from the first one on. */
  readonly left: number;
  readonly signal: AbortSignal | undefined;
  /** Aborted when nobody waits any more. */
  readonly ended: AbortSignal;
}

/** Sends again and again, each time when it is its turn; resolves when no answer is waited for any longer. */
function over<T>({ answers, key, send, left, signal, ended }: Sendings<T>): Promise<'over'> {
  return new Promise((resolve) => {
    const timers: NodeJS.Timeout[] = [];
    ended.addEventListener('abort', () => timers.forEach(clearTimeout));
    const stop = () => {
      // It may have come while this thread was busy.
      answers.look();
      setImmediate(resolve, 'over');
    };
    signal?.addEventListener('abort', stop, { once: true, signal: ended });
    if (signal?.aborted) stop();
    let sendings = 0;
    const next = () => {
      if (sendings++ === 0) timers.push(setTimeout(stop, left));
      send();
      if (sendings < SENDINGS) timers.push(setTimeout(() => answers.send(key, next), left / SENDINGS));
    };
    answers.send(key, next);
  });
}

function sent(line: Line, packet: Buffer): Promise<void> {
  return new Promise((resolve) => line.send(packet, () => resolve()));
}

/**
 * How a filter of answers begins: whole packets to this host, of that protocol; then X is where the transport header begins, behind NETWORK.
 * @param but packets with one of these bits of the fragment's place are passed over
 */
export function wholeToThisHost(protocol: number, but = FRAGMENT_BITS): Instruction[] {
  return [
    ...toThisHost(),
    op(LOAD_BYTE, NETWORK + PROTOCOL),
    [IF_EQUAL, 1, 0, protocol],
    drop(),
    op(LOAD_HALF, NETWORK + FRAGMENT),
    [IF_BITS, 0, 1, but],
    drop(),
    ...headerLength(),
    op(TO_X),
  ];
}

/** An IPv4 packet, not to be cut, of that protocol; its transport checksum is the caller's. */
export function ipv4(source: string, destination: string, protocol: number, body: Buffer): Buffer {
  const ip = Buffer.alloc(F.IP_HEADER);
  ip.set([0x45, 0, 0, 0, 0, 0, 0x40, 0, TTL, protocol]);
  ip.writeUInt16BE(F.IP_HEADER + body.length, 2);
  ip.writeInt32LE(parseAddress(source), 4 * F.IP_SOURCE);
  ip.writeInt32LE(parseAddress(destination), 4 * F.IP_DESTINATION);
  writeChecksum(ip, 10);
  return Buffer.concat([ip, body]);
}

/** The checksum of all of `bytes`, where it is 0 so far, and of what `before` sums up to. */
export function writeChecksum(bytes: Buffer, at: number, before: Buffer = Buffer.alloc(0)): void {
  const all = Buffer.concat([before, bytes]);
  bytes.writeUInt16LE(~sum(all, 0, all.length) & 0xffff, at);
}
