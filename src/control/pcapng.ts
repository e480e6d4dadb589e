/**
 * Packets as pcapng (draft-ietf-opsawg-pcapng), which tshark, Wireshark and tcpdump read: blocks in little-endian order, times in microseconds. What
 * has become of a packet is its comment; what is not there stands in statistics of interface 0, which come again whenever they change.
 */

/** Block types. */
export const BLOCK = { section: 0x0a0d0d0a, interface: 1, packet: 6, statistics: 5 } as const;
/** Codes of options; the others by the block that they are in. */
export const OPTION = {
  end: 0,
  comment: 1,
  application: 4,
  name: 2,
  description: 3,
  resolution: 9,
  flags: 2,
  received: 4,
  dropped: 5,
} as const;
/** Link types (LINKTYPE_): an Ethernet header, none. */
export const LINK = { ethernet: 1, raw: 101 } as const;
/** Of a packet's flags: which way it went. */
export const DIRECTION = { in: 1, out: 2 } as const;

const MAGIC = 0x1a2b3c4d;
const MICROSECONDS = 6;
const UNKNOWN_LENGTH = 0xff;

/** A packet, as it came in or as it went out. */
export interface CapturedPacket {
  readonly isOut: boolean;
  /** Milliseconds since 1970, with what there is behind the point. */
  readonly time: number;
  /** The name of the interface. */
  readonly by: string;
  readonly hasEthernet: boolean;
  readonly bytes: Uint8Array;
  /** What there was of it. */
  readonly length: number;
  readonly comment: string;
}

export class PcapngWriter {
  /** Numbers of interfaces, by name and link type. */
  readonly #interfaces = new Map<string, number>();
  readonly #snaplen: number;

  constructor(snaplen: number) {
    this.#snaplen = snaplen;
  }

  /** What comes first: the section, and interface 0, by which nothing comes in. */
  begin(application: string): Buffer {
    const length = Buffer.alloc(8, UNKNOWN_LENGTH);
    const section = block(BLOCK.section, u32(MAGIC), u16(1), u16(0), length, options([OPTION.application, application]));
    return Buffer.concat([section, this.#interface('kernel', false, "what the kernel's routing sends; statistics of all")]);
  }

  /** A packet, behind its interface where that is a new one. */
  packet({ isOut, time, by, hasEthernet, bytes, length, comment }: CapturedPacket): Buffer {
    const known = this.#interfaces.get(keyOf(by, hasEthernet));
    const described = known === undefined ? this.#interface(by, hasEthernet) : Buffer.alloc(0);
    const number = known ?? this.#interfaces.size - 1;
    const more = options([OPTION.flags, u32(isOut ? DIRECTION.out : DIRECTION.in)], [OPTION.comment, comment]);
    return Buffer.concat([
      described,
      block(BLOCK.packet, u32(number), timestamp(time), u32(bytes.length), u32(length), padded(bytes), more),
    ]);
  }

  /** How many there are, how many were lost for want of room, and what else people should know. */
  statistics(time: number, received: number, dropped: number, comment: string | undefined): Buffer {
    const about = comment === undefined ? [] : [[OPTION.comment, comment] as const];
    return block(
      BLOCK.statistics,
      u32(0),
      timestamp(time),
      options([OPTION.received, u64(received)], [OPTION.dropped, u64(dropped)], ...about),
    );
  }

  #interface(name: string, hasEthernet: boolean, description?: string): Buffer {
    this.#interfaces.set(keyOf(name, hasEthernet), this.#interfaces.size);
    const about = description === undefined ? [] : [[OPTION.description, description] as const];
    const link = hasEthernet ? LINK.ethernet : LINK.raw;
    const more = options([OPTION.name, name], ...about, [OPTION.resolution, Uint8Array.of(MICROSECONDS)]);
    return block(BLOCK.interface, u16(link), u16(0), u32(this.#snaplen), more);
  }
}

function keyOf(name: string, hasEthernet: boolean): string {
  return `${hasEthernet ? LINK.ethernet : LINK.raw} ${name}`;
}

/** Its length stands in front of it and behind it. */
function block(type: number, ...parts: readonly Uint8Array[]): Buffer {
  const length = u32(12 + parts.reduce((sum, part) => sum + part.length, 0));
  return Buffer.concat([u32(type), length, ...parts, length]);
}

function options(...all: readonly (readonly [number, Uint8Array | string])[]): Buffer {
  const parts = all.flatMap(([code, value]) => {
    const bytes = typeof value === 'string' ? Buffer.from(value) : value;
    return [u16(code), u16(bytes.length), padded(bytes)];
  });
  return Buffer.concat([...parts, u16(OPTION.end), u16(0)]);
}

function padded(bytes: Uint8Array): Uint8Array {
  const rest = -bytes.length & 3;
  return rest === 0 ? bytes : Buffer.concat([bytes, new Uint8Array(rest)]);
}

/** The upper half first, whichever the byte order. */
function timestamp(milliseconds: number): Buffer {
  const microseconds = Math.round(milliseconds * 1000);
  return Buffer.concat([u32(Math.floor(microseconds / 2 ** 32)), u32(microseconds % 2 ** 32)]);
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
