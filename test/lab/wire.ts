/**
 * Frames built and read by hand, for what no ordinary program sends. On purpose it shares no code with src/: it is the slow
 * and plain reference.
 */
import { join } from 'node:path';
import { type Namespace, ROOT } from './lab.ts';
import { PYTHON, type Running } from './processes.ts';
import { PATIENCE, within } from './wait.ts';

export const TCP = 6;
export const UDP = 17;
export const ICMP = 1;
export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;
export const ECE = 64;
export const CWR = 128;

export interface Packet {
  source: string;
  destination: string;
  protocol?: number;
  ttl?: number;
  id?: number;
  dontFragment?: boolean;
  moreFragments?: boolean;
  /** In bytes, a multiple of eight. */
  fragmentOffset?: number;
  tos?: number;
  /** IP options, padded to a multiple of four by the caller. */
  options?: Buffer;
  /** TCP and UDP. */
  sourcePort?: number;
  destinationPort?: number;
  sequence?: number;
  acknowledgment?: number;
  flags?: number;
  window?: number;
  tcpOptions?: Buffer;
  /** ICMP: type, code, and the second word of its header. */
  type?: number;
  code?: number;
  rest?: number;
  payload?: Buffer;
}

export type Parsed = Required<Packet> & {
  sourceMac: string;
  destinationMac: string;
  totalLength: number;
  /** Bytes after the IP packet. */
  padding: number;
  /** Every checksum in it is right. */
  checksumsRight: boolean;
  /** The IP packet itself. */
  bytes: Buffer;
};

/** RFC 1071, byte by byte. */
export function checksum(data: Buffer): number {
  let sum = 0;
  for (let i = 0; i < data.length; i++) sum += i % 2 === 0 ? data[i] << 8 : data[i];
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return 0xffff - sum;
}

/** Digits before the destination of an IPv4 packet in an Ethernet frame. */
const DESTINATION_AT = 2 * (14 + 16);

const hexadecimal = (text: string): string => address(text).toString('hex');
const address = (text: string): Buffer => Buffer.from(text.split('.').map(Number));
const mac = (text: string): Buffer => Buffer.from(text.replaceAll(':', ''), 'hex');

function pseudoHeader(source: Buffer, destination: Buffer, protocol: number, length: number): Buffer {
  // Of a super-packet the length may need more than 16 bits.
  return Buffer.concat([source, destination, Buffer.from([0, protocol, length >>> 24, length >>> 16, length >>> 8, length])]);
}

function transport(packet: Packet, protocol: number): Buffer {
  const payload = packet.payload ?? Buffer.alloc(0);
  const { sourcePort = 0, destinationPort = 0 } = packet;
  if (protocol === TCP) {
    const options = packet.tcpOptions ?? Buffer.alloc(0);
    const header = Buffer.alloc(20);
    header.writeUInt16BE(sourcePort, 0);
    header.writeUInt16BE(destinationPort, 2);
    header.writeUInt32BE((packet.sequence ?? 0) >>> 0, 4);
    header.writeUInt32BE((packet.acknowledgment ?? 0) >>> 0, 8);
    header.writeUInt8((5 + options.length / 4) << 4, 12);
    header.writeUInt8(packet.flags ?? 0, 13);
    header.writeUInt16BE(packet.window ?? 65_535, 14);
    return sealed(Buffer.concat([header, options, payload]), 16, packet, TCP);
  }
  if (protocol === UDP) {
    const header = Buffer.alloc(8);
    header.writeUInt16BE(sourcePort, 0);
    header.writeUInt16BE(destinationPort, 2);
    header.writeUInt16BE(8 + payload.length, 4);
    return sealed(Buffer.concat([header, payload]), 6, packet, UDP);
  }
  const header = Buffer.alloc(8);
  header.writeUInt8(packet.type ?? 0, 0);
  header.writeUInt8(packet.code ?? 0, 1);
  header.writeUInt32BE(packet.rest ?? 0, 4);
  const whole = Buffer.concat([header, payload]);
  whole.writeUInt16BE(checksum(whole), 2);
  return whole;
}

function sealed(segment: Buffer, at: number, packet: Packet, protocol: number): Buffer {
  const pseudo = pseudoHeader(address(packet.source), address(packet.destination), protocol, segment.length);
  // RFC 768: UDP has no zero, which says that there is none.
  segment.writeUInt16BE(checksum(Buffer.concat([pseudo, segment])) || (protocol === UDP ? 0xffff : 0), at);
  return segment;
}

/** An IPv4 packet with all its checksums. A fragment after the first is `payload` alone. */
export function ipv4(packet: Packet): Buffer {
  const protocol = packet.protocol ?? TCP;
  const options = packet.options ?? Buffer.alloc(0);
  const body = (packet.fragmentOffset ?? 0) > 0 ? (packet.payload ?? Buffer.alloc(0)) : transport(packet, protocol);
  const header = Buffer.alloc(20);
  header.writeUInt8(0x40 | (5 + options.length / 4), 0);
  header.writeUInt8(packet.tos ?? 0, 1);
  const length = 20 + options.length + body.length;
  header.writeUInt16BE(length > 0xffff ? 0 : length, 2); // BIG TCP says nothing
  header.writeUInt16BE(packet.id ?? 0, 4);
  const flags = (packet.dontFragment === true ? 0x4000 : 0) | (packet.moreFragments === true ? 0x2000 : 0);
  header.writeUInt16BE(flags | ((packet.fragmentOffset ?? 0) / 8), 6);
  header.writeUInt8(packet.ttl ?? 64, 8);
  header.writeUInt8(protocol, 9);
  address(packet.source).copy(header, 12);
  address(packet.destination).copy(header, 16);
  const whole = Buffer.concat([header, options]);
  whole.writeUInt16BE(checksum(whole), 10);
  return Buffer.concat([whole, body]);
}

/** An Ethernet frame, padded with `fill` to `minimum` bytes. */
export function ethernet(sourceMac: string, destinationMac: string, packet: Buffer, minimum = 0, fill = 0): Buffer {
  const frame = Buffer.concat([mac(destinationMac), mac(sourceMac), Buffer.from([8, 0]), packet]);
  return frame.length >= minimum ? frame : Buffer.concat([frame, Buffer.alloc(minimum - frame.length, fill)]);
}

/**
 * The virtio-net header of a frame that carries `packet`; with a `segment` that is a TCP super-packet to be cut into so many bytes
 * of payload each, whose checksum field, the pseudo-header's sum then, is for others to finish.
 */
function virtio(packet: Buffer, segment: number): Buffer {
  const header = Buffer.alloc(10);
  if (segment === 0) return header;
  const ip = (packet[0] & 15) * 4;
  const tcp = packet.subarray(ip);
  const pseudo = pseudoHeader(packet.subarray(12, 16), packet.subarray(16, 20), TCP, tcp.length);
  tcp.writeUInt16BE(0xffff - checksum(pseudo), 16);
  const congestion = (tcp[13] & CWR) === 0 ? 0 : 0x80; // VIRTIO_NET_HDR_GSO_ECN
  header.set([1, 1 | congestion]); // VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4
  header.writeUInt16LE(14 + ip + (tcp[12] >> 4) * 4, 2);
  header.writeUInt16LE(segment, 4);
  header.writeUInt16LE(14 + ip, 6);
  header.writeUInt16LE(16, 8);
  return header;
}

/** RFC 791 section 3.2, slowly: the packet that its fragments make up, or undefined while one is missing. */
export function reassemble(fragments: readonly Buffer[]): Buffer | undefined {
  const pieces = fragments.map(parseIpv4).sort((a, b) => a.fragmentOffset - b.fragmentOffset);
  const bodies: Buffer[] = [];
  let length = 0;
  for (const { bytes, fragmentOffset, options, totalLength } of pieces) {
    if (fragmentOffset !== length) return undefined;
    bodies.push(bytes.subarray(20 + options.length, totalLength));
    length += totalLength - 20 - options.length;
  }
  const [first, last] = [pieces[0], pieces.at(-1)];
  if (first === undefined || last === undefined || last.moreFragments) return undefined;
  const header = Buffer.from(first.bytes.subarray(0, 20 + first.options.length));
  header.writeUInt16BE(header.length + length, 2);
  header.writeUInt32BE(first.id * 0x10000, 4);
  header.writeUInt16BE(0, 10);
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, ...bodies]);
}

/** Reads an IPv4 packet, such as one quoted in an ICMP error (then cut short: its transport checksum is not judged). */
export function parseIpv4(packet: Buffer): Parsed {
  const headerLength = (packet[0] & 15) * 4;
  const totalLength = packet.readUInt16BE(2);
  const fragment = packet.readUInt16BE(6);
  const protocol = packet[9];
  const source = packet.subarray(12, 16);
  const destination = packet.subarray(16, 20);
  const body = packet.subarray(headerLength, totalLength);
  const whole = packet.length >= totalLength && (fragment & 0x3fff) === 0;
  const pseudo = protocol === ICMP ? Buffer.alloc(0) : pseudoHeader(source, destination, protocol, totalLength - headerLength);
  const ports = protocol !== ICMP && body.length >= 8;
  const tcp = protocol === TCP && body.length >= 20;
  const transportLength = tcp ? (body[12] >> 4) * 4 : 8;
  return {
    sourceMac: '',
    destinationMac: '',
    source: source.join('.'),
    destination: destination.join('.'),
    protocol,
    ttl: packet[8],
    id: packet.readUInt16BE(4),
    tos: packet[1],
    dontFragment: (fragment & 0x4000) !== 0,
    moreFragments: (fragment & 0x2000) !== 0,
    fragmentOffset: (fragment & 0x1fff) * 8,
    options: packet.subarray(20, headerLength),
    totalLength,
    padding: Math.max(0, packet.length - totalLength),
    sourcePort: ports ? body.readUInt16BE(0) : 0,
    destinationPort: ports ? body.readUInt16BE(2) : 0,
    sequence: protocol === TCP && body.length >= 8 ? body.readUInt32BE(4) : 0,
    acknowledgment: tcp ? body.readUInt32BE(8) : 0,
    flags: tcp ? body[13] : 0,
    window: tcp ? body.readUInt16BE(14) : 0,
    tcpOptions: tcp ? body.subarray(20, transportLength) : Buffer.alloc(0),
    type: protocol === ICMP ? body[0] : 0,
    code: protocol === ICMP ? body[1] : 0,
    rest: protocol === ICMP ? body.readUInt32BE(4) : 0,
    payload: body.subarray(transportLength),
    bytes: packet.subarray(0, totalLength),
    checksumsRight: checksum(packet.subarray(0, headerLength)) === 0 && (!whole || checksum(Buffer.concat([pseudo, body])) === 0),
  };
}

/** Reads an Ethernet frame; undefined when it does not hold IPv4. */
export function parse(frame: Buffer): Parsed | undefined {
  if (frame.readUInt16BE(12) !== 0x0800) return undefined;
  const macAt = (at: number): string => (frame.toString('hex', at, at + 6).match(/../g) ?? []).join(':');
  return { ...parseIpv4(frame.subarray(14)), destinationMac: macAt(0), sourceMac: macAt(6) };
}

/**
 * A host that has no kernel: it owns `address` on the wire of a namespace's interface, and everything it says is put together
 * here. `gateway` is given the neighbour entry that ARP would have made.
 */
export class RawHost {
  readonly address: string;
  readonly received: Parsed[] = [];
  readonly #pipe: Running;
  readonly #mac: string;
  readonly #gatewayMac: string;

  private constructor(address: string, pipe: Running, own: string, gatewayMac: string) {
    this.address = address;
    this.#pipe = pipe;
    this.#mac = own;
    this.#gatewayMac = gatewayMac;
    const destination = hexadecimal(address);
    pipe.onLine((line) => {
      // What passes to others is not even parsed: of megabytes that takes seconds, for which all that comes later would wait.
      if (!line.startsWith(destination, DESTINATION_AT)) return;
      const packet = /^[0-9a-f]{68,}$/.test(line) ? parse(Buffer.from(line, 'hex')) : undefined;
      if (packet?.destination === address) this.received.push(packet);
    });
  }

  static async attach(
    namespace: Namespace,
    device: string,
    address: string,
    gateway: { namespace: Namespace; device: string },
  ): Promise<RawHost> {
    const own = namespace.mac(device);
    gateway.namespace.ip('neigh', 'replace', address, 'lladdr', own, 'dev', gateway.device, 'nud', 'permanent');
    const pipe = namespace.start([PYTHON, '-IS', join(ROOT, 'test/lab/wire.py'), device]);
    await pipe.line(/^ready/);
    return new RawHost(address, pipe, own, gateway.namespace.mac(gateway.device));
  }

  /** Sends one packet to the gateway; `minimum` and `fill` pad the frame. */
  send(packet: Omit<Packet, 'source'> & { source?: string }, minimum = 0, fill = 0): void {
    this.#write(ipv4({ source: this.address, ...packet }), 0, minimum, fill);
  }

  /** Sends a TCP super-packet, to be cut into segments with `segment` bytes of payload each. */
  sendSuper(packet: Omit<Packet, 'source'>, segment: number): void {
    this.#write(ipv4({ source: this.address, ...packet }), segment);
  }

  /** Sends a fragment as `packet` describes it, with exactly `body` behind its IP header. */
  sendFragment(packet: Omit<Packet, 'source'>, body: Buffer): void {
    const offset = packet.fragmentOffset ?? 0;
    const more = packet.moreFragments === true ? 0x2000 : 0;
    // Any offset but 0 keeps ipv4() from putting a transport header in front.
    this.sendRaw({ ...packet, fragmentOffset: 8, payload: body }, (bytes) => bytes.writeUInt16BE(more | (offset / 8), 6));
  }

  /** The same, with the IP packet spoilt by `alter` (its IP checksum is made right again). */
  sendRaw(packet: Omit<Packet, 'source'>, alter: (packet: Buffer) => void): void {
    const bytes = ipv4({ source: this.address, ...packet });
    alter(bytes);
    const headerLength = Math.min((bytes[0] & 15) * 4, bytes.length);
    bytes.writeUInt16BE(0, 10);
    bytes.writeUInt16BE(checksum(bytes.subarray(0, headerLength)), 10);
    this.#write(bytes, 0);
  }

  #write(packet: Buffer, segment: number, minimum = 0, fill = 0): void {
    const head = virtio(packet, segment);
    this.#pipe.write(Buffer.concat([head, ethernet(this.#mac, this.#gatewayMac, packet, minimum, fill)]).toString('hex'));
  }

  /** What an ICMP error quotes of a packet: its IP header and eight bytes (RFC 792). */
  quote(packet: Parsed): Buffer {
    return ipv4(packet).subarray(0, 20 + packet.options.length + 8);
  }

  /** Accepts every health check (RST ends each), so that lb4 takes this host for a living server. */
  answerHealthChecks(): void {
    this.#pipe.onLine(() => {
      for (const packet of this.received.filter(({ sourcePort }) => sourcePort >= 32_768 && sourcePort <= 33_767)) {
        this.received.splice(this.received.indexOf(packet), 1);
        const back = { destination: packet.source, sourcePort: packet.destinationPort, destinationPort: packet.sourcePort };
        if (packet.flags === SYN) this.send({ ...back, flags: SYN | ACK, sequence: 1, acknowledgment: packet.sequence + 1 });
        else if ((packet.flags & FIN) !== 0) this.send({ ...back, flags: RST, sequence: packet.acknowledgment });
      }
    });
  }

  /** Takes the packet with this identification, however many fragments it comes in. */
  async expectWhole(what: string, id: number): Promise<{ packet: Parsed; fragments: Parsed[] }> {
    const fragments: Parsed[] = [];
    for (;;) {
      fragments.push(await this.expect(`${what}, piece ${fragments.length + 1}`, (packet) => packet.id === id));
      const bytes = reassemble(fragments.map((fragment) => fragment.bytes));
      if (bytes !== undefined) return { packet: parseIpv4(bytes), fragments };
    }
  }

  /** Takes the first packet for this host that matches, among those received or to come. */
  async expect(what: string, matches: (packet: Parsed) => boolean, timeout = PATIENCE): Promise<Parsed> {
    const look = (): Parsed | undefined => {
      const index = this.received.findIndex(matches);
      return index < 0 ? undefined : this.received.splice(index, 1)[0];
    };
    const known = look();
    if (known !== undefined) return known;
    let leave = (): void => undefined;
    const coming = new Promise<Parsed>((resolve) => {
      leave = this.#pipe.onLine(() => {
        const packet = look();
        if (packet === undefined) return;
        leave(); // at once: the next line may come before the promise's callbacks, and what it brings is for others
        resolve(packet);
      });
    });
    try {
      return await within(coming, timeout, what);
    } catch (error) {
      const seen = this.received.map((p) => `${p.source}:${p.sourcePort} > ${p.destinationPort} proto ${p.protocol} flags ${p.flags}`);
      throw new Error(`${String(error)}; received ${seen.join('; ') || 'nothing'}`, { cause: error });
    } finally {
      leave();
    }
  }
}
