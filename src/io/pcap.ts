/**
 * The driver for hosts where the ring cannot be had: libpcap by the npm package `cap`, a capture an interface, and `raw-socket` where the
 * kernel finds the way. A frame at a time, each with a copy and an event: several times slower than the ring. Both packages live on
 * the event loop of a process's main thread, so nobody waits in `receive`: `arrived` is called when there is a frame to receive.
 *
 * An interface that goes down while it is captured ends the process: `cap` aborts (binding.cc, cb_packets).
 */
import {
  BATCH,
  CLOCK,
  FLAG_CUT,
  FLAG_GSO,
  FLAG_NO_ETHERNET,
  FLAG_PARTIAL,
  FLAG_TRUNCATED,
  FLAGS,
  HEADER,
  INTERFACE,
  LENGTH,
  LIMIT,
  OFFSET,
  OUT,
  REFUSED,
  ROUTE,
  SEND,
  STRIDE,
} from '../layout/frames.ts';
import { formatAddress } from '../packet/address.ts';
import { IP_DESTINATION, slabOf } from '../packet/fields.ts';
import type { Driver } from './driver.ts';
import type { FilterSpec } from './filter.ts';
import { type Interface, native } from './native.ts';
import { captureFilter } from './pcap-filter.ts';
import { finishChecksum, flagsOf, segmentBytes } from './pcap-frame.ts';
import { type Capture, loadPackages, type RawSocket } from './pcap-packages.ts';

/** The slab: one frame, its IP header at IP, with room to grow. */
const SLAB_BYTES = 128 * 1024;
const IP = 64;
const ETHERNET = 14;
/** What `cap` captures of a frame at most, its link header included (SNAPLEN). */
const FRAME_BYTES = 65_535;
const IPV4 = 0x0008;
/** Room in the kernel for frames of each interface. */
const KERNEL_BYTES = 16 << 20;
/** `cap` hands over frames for as long as there are any: after so long without a turn of the event loop they are dropped. */
const TURN_MS = 50;
/** Packets that wait for the raw socket. */
const MOST_WAITING = 1024;

export interface PcapOptions {
  /** There is a frame: `receive` has it, and `transmit` has to follow before this returns. */
  readonly arrived: () => void;
  /** What people should know, each once. */
  readonly tell: (message: string) => void;
}

interface Opened {
  readonly link: Interface;
  readonly filter: string;
  readonly capture: Capture;
}

export class PcapDriver implements Driver {
  readonly slab = new ArrayBuffer(SLAB_BYTES);
  readonly #options: PcapOptions;
  readonly #packages = loadPackages();
  readonly #raw: RawSocket;
  readonly #view = slabOf(this.slab);
  /** Where captures write, from the Ethernet header on. They keep its bare address: it must live as long as they do. */
  readonly #frame = Buffer.from(this.slab, IP - ETHERNET);
  readonly #room = Buffer.from(this.slab, IP - ETHERNET, FRAME_BYTES);
  /** By interface index. */
  readonly #opened = new Map<number, Opened>();
  /** What has been told, once each, by the index of the interface that it is about; 0: of none. */
  readonly #told = new Map<string, number>();
  readonly #origin: number;
  /** What was captured last: its bytes, where from, and whether it did not fit. */
  #bytes = 0;
  #from: Interface | undefined;
  #hasEthernet = true;
  #isTruncated = false;
  #turnBegan = 0;
  #received = 0;
  #dropped = 0;
  #waiting = 0;
  #refusedLate = 0;

  /** Captures nothing yet: `capture` does. Throws an Error with the code ERR_PCAP_PACKAGES, or the system's. */
  constructor(options: PcapOptions) {
    this.#options = options;
    this.#raw = this.#packages.openRawSocket();
    this.#raw.on('error', ({ message }) => this.#tell(0, `raw-socket: ${message}`));
    const [seconds, nanoseconds] = process.hrtime();
    this.#origin = seconds * 1000 + nanoseconds / 1_000_000 - performance.now();
  }

  /**
   * Captures what `spec` asks for on all interfaces that are up. To be called again when either changes: a capture whose filter changes is
   * opened anew, and what waits in its kernel buffer is lost. Throws when no interface can be captured.
   */
  capture(spec: FilterSpec, interfaces: readonly Interface[]): void {
    const links = capturable(interfaces);
    const wanted = new Set(links.map(({ index }) => index));
    for (const index of this.#opened.keys()) if (!wanted.has(index)) this.#close(index);
    // One that comes again, or another one of that name, is told of again.
    for (const [message, index] of this.#told) if (index !== 0 && !wanted.has(index)) this.#told.delete(message);
    let error: unknown;
    for (const link of links) {
      try {
        this.#open(link, captureFilter(spec, link.mac));
      } catch (cause) {
        error ??= cause;
        this.#tell(link.index, `${link.name} cannot be captured: ${String(cause)}`);
      }
    }
    if (error !== undefined && this.#opened.size === 0) throw error;
  }

  receive(frames: Int32Array, _timeoutMs: number): number {
    frames[CLOCK] = Math.floor(performance.now() + this.#origin);
    if (this.#from === undefined) return 0;
    const { index, mtu } = this.#from;
    const length = this.#bytes - (this.#hasEthernet ? ETHERNET : 0);
    const flags = this.#flags(length, mtu);
    if (flags & FLAG_GSO)
      this.#tell(
        index,
        `frames larger than the MTU come by ${this.#from.name}, which lb4 cuts: \`ethtool -K ${this.#from.name} gro off lro off\``,
      );
    frames[HEADER + OFFSET] = IP;
    frames[HEADER + LENGTH] = length;
    frames[HEADER + INTERFACE] = index;
    frames[HEADER + FLAGS] = flags;
    this.#from = undefined;
    return 1;
  }

  transmit(frames: Int32Array, count: number): number {
    let taken = 0;
    let refused = this.#refusedLate;
    this.#refusedLate = 0;
    for (let f = HEADER; f < HEADER + Math.min(count, BATCH) * STRIDE; f += STRIDE) {
      if (frames[f + OUT] !== SEND && frames[f + OUT] !== ROUTE) continue;
      if (this.#sendFrame(frames, f)) taken++;
      else refused++;
    }
    frames[REFUSED] = refused;
    return taken;
  }

  statistics(): { received: number; dropped: number } {
    const counted = { received: this.#received, dropped: this.#dropped };
    this.#received = 0;
    this.#dropped = 0;
    return counted;
  }

  close(): void {
    for (const index of this.#opened.keys()) this.#close(index);
    this.#raw.close();
  }

  #open(link: Interface, filter: string): void {
    const before = this.#opened.get(link.index);
    if (before !== undefined) {
      const isSame = before.filter === filter && before.link.name === link.name && before.link.mtu === link.mtu;
      if (isSame) return;
      this.#close(link.index);
    }
    const capture = new this.#packages.Cap();
    const type = capture.open(link.name, filter, KERNEL_BYTES, this.#room);
    if (type !== 'ETHERNET' && type !== 'RAW') {
      capture.close();
      this.#tell(link.index, `${link.name} is not captured: its link type is ${type}`);
      return;
    }
    const hasEthernet = type === 'ETHERNET';
    capture.on('packet', (bytes, isTruncated) => this.#arrived(link, hasEthernet, bytes, isTruncated));
    this.#opened.set(link.index, { link, filter, capture });
  }

  #close(index: number): void {
    this.#opened.get(index)?.capture.close();
    this.#opened.delete(index);
  }

  #arrived(link: Interface, hasEthernet: boolean, bytes: number, isTruncated: boolean): void {
    this.#received++;
    if (this.#isLate()) {
      this.#dropped++;
      return;
    }
    // What has a VLAN's tag arrives at the VLAN's interface, too.
    if (hasEthernet && this.#view.halves[(IP - 2) >> 1] !== IPV4) return;
    if (!hasEthernet) this.#view.bytes.copyWithin(IP, IP - ETHERNET, IP - ETHERNET + bytes);
    this.#from = link;
    this.#hasEthernet = hasEthernet;
    this.#bytes = bytes;
    this.#isTruncated = isTruncated;
    this.#options.arrived();
  }

  /** Whether the event loop has not turned for too long: whoever stops, or configures, must be heard. */
  #isLate(): boolean {
    const now = performance.now();
    if (this.#turnBegan === 0) {
      this.#turnBegan = now;
      setImmediate(() => {
        this.#turnBegan = 0;
      });
    }
    return now - this.#turnBegan > TURN_MS;
  }

  #flags(length: number, mtu: number): number {
    const flags = flagsOf(this.#view, IP, length, mtu, this.#sum);
    return flags | (this.#hasEthernet ? 0 : FLAG_NO_ETHERNET) | (this.#isTruncated ? FLAG_TRUNCATED : 0);
  }

  readonly #sum = (offset: number, length: number): number => native().sum(this.slab, offset, length);

  #sendFrame(frames: Int32Array, f: number): boolean {
    const flags = frames[f + FLAGS];
    const ip = frames[f + OFFSET];
    const length = frames[f + LENGTH];
    if (ip !== IP || length > SLAB_BYTES - IP) return false;
    if (flags & (FLAG_GSO | FLAG_CUT)) return this.#sendPieces(frames, f);
    if (flags & FLAG_PARTIAL) finishChecksum(this.#view, IP, this.#sum);
    if (frames[f + OUT] === SEND) return this.#send(frames[f + INTERFACE], this.#frame, ETHERNET + length);
    return this.#route(Buffer.from(this.#frame.subarray(ETHERNET, ETHERNET + length)));
  }

  #sendPieces(frames: Int32Array, f: number): boolean {
    const flags = frames[f + FLAGS];
    const index = frames[f + INTERFACE];
    const packet = this.slab.slice(IP, IP + frames[f + LENGTH]);
    const mtu = this.#opened.get(index)?.link.mtu ?? FRAME_BYTES;
    const segment = flags & FLAG_GSO ? segmentBytes(this.#view, IP, mtu) : 0;
    const limit = flags & FLAG_CUT ? frames[f + LIMIT] : FRAME_BYTES;
    const pieces = native().cut(packet, segment, (flags & FLAG_PARTIAL) !== 0, limit);
    const head = this.#frame.subarray(0, ETHERNET);
    let isSent = pieces.length > 0;
    for (const piece of pieces) {
      const bytes = Buffer.from(piece);
      const isGone =
        frames[f + OUT] === SEND ? this.#send(index, Buffer.concat([head, bytes]), ETHERNET + bytes.length) : this.#route(bytes);
      isSent &&= isGone;
    }
    return isSent;
  }

  #send(index: number, frame: Buffer, bytes: number): boolean {
    const opened = this.#opened.get(index);
    if (opened === undefined) return false;
    try {
      opened.capture.send(frame, bytes);
      return true;
    } catch {
      // No room, or the link is down: counted, as with the ring.
      return false;
    }
  }

  /** The socket sends it in a later turn: it must be a copy. */
  #route(packet: Buffer): boolean {
    if (this.#waiting >= MOST_WAITING) return false;
    this.#waiting++;
    const to = formatAddress(packet.readInt32LE(IP_DESTINATION * 4));
    this.#raw.send(packet, 0, packet.length, to, (error) => {
      this.#waiting--;
      if (error !== null) this.#refusedLate++;
    });
    return true;
  }

  #tell(index: number, message: string): void {
    if (this.#told.has(message)) return;
    this.#told.set(message, index);
    this.#options.tell(message);
  }
}

/**
 * Where frames arrive: not at a bridge's or bond's ports, whose frames arrive at the bridge or bond as well. A VRF takes no frames from its
 * interfaces, only routes.
 */
function capturable(interfaces: readonly Interface[]): Interface[] {
  const vrfs = new Set(interfaces.filter(({ kind }) => kind === 'vrf').map(({ index }) => index));
  return interfaces.filter(({ index, up, master }) => up && !vrfs.has(index) && (master === 0 || vrfs.has(master)));
}
