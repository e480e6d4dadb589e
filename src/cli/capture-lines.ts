/** What `lb4 capture` gets: pcapng (control/pcapng.ts) block by block, and a packet of it as a line, like tcpdump's. */
import { BLOCK, DIRECTION, LINK, OPTION } from '../control/pcapng.ts';

/** Bytes in front of a block's body. */
const HEAD = 8;
/** Bytes of an enhanced packet block's body in front of the packet, and of others in front of their options. */
const PACKET_HEAD = 20;
const INTERFACE_HEAD = 8;
const STATISTICS_HEAD = 12;
const ETHERNET = 14;
const IPV4 = 0x0800;
const VLANS: readonly number[] = [0x8100, 0x88a8];
const PROTOCOLS: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp' };
const FLAGS = ['F', 'S', 'R', 'P', '.'];

/** Cuts what comes into whole blocks. */
export class Blocks {
  #rest: Buffer = Buffer.alloc(0);

  /** Those that are whole by now. */
  take(part: Buffer): Buffer[] {
    let rest = this.#rest.length === 0 ? part : Buffer.concat([this.#rest, part]);
    const blocks: Buffer[] = [];
    for (;;) {
      const length = rest.length < HEAD ? HEAD : rest.readUInt32LE(4);
      if (rest.length < length) break;
      blocks.push(rest.subarray(0, length));
      rest = rest.subarray(length);
    }
    this.#rest = rest;
    return blocks;
  }
}

/** What is known of a capture so far. */
export class CaptureLines {
  readonly #interfaces: { readonly name: string; readonly link: number }[] = [];
  packets = 0;
  lost = 0;
  note: string | undefined;

  /** The line of a packet; undefined for other blocks, which it takes note of. */
  take(block: Buffer): string | undefined {
    const type = block.readUInt32LE(0);
    const body = block.subarray(HEAD, -4);
    if (type === BLOCK.interface) {
      const name = optionsOf(body.subarray(INTERFACE_HEAD)).get(OPTION.name)?.toString() ?? '';
      this.#interfaces.push({ name, link: body.readUInt16LE(0) });
    } else if (type === BLOCK.statistics) {
      const options = optionsOf(body.subarray(STATISTICS_HEAD));
      this.lost = Number(options.get(OPTION.dropped)?.readBigUInt64LE() ?? 0);
      this.note = options.get(OPTION.comment)?.toString();
    } else if (type === BLOCK.packet) {
      this.packets++;
      return this.#line(body);
    }
    return undefined;
  }

  #line(body: Buffer): string {
    const { name = '', link = LINK.raw } = this.#interfaces[body.readUInt32LE(0)] ?? {};
    const captured = body.readUInt32LE(12);
    const bytes = body.subarray(PACKET_HEAD, PACKET_HEAD + captured);
    const options = optionsOf(body.subarray(PACKET_HEAD + ((captured + 3) & ~3)));
    const isOut = ((options.get(OPTION.flags)?.readUInt32LE() ?? 0) & 3) === DIRECTION.out;
    const what = packetText(bytes, link === LINK.ethernet, body.readUInt32LE(16));
    return `${timeText(body)} ${isOut ? 'out' : 'in '} ${name} ${what}  ${options.get(OPTION.comment)?.toString() ?? ''}\n`;
  }
}

/** By their codes; of several with one code the last. */
function optionsOf(bytes: Buffer): Map<number, Buffer> {
  const options = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= bytes.length; ) {
    const [code, length] = [bytes.readUInt16LE(at), bytes.readUInt16LE(at + 2)];
    if (code === OPTION.end) break;
    options.set(code, bytes.subarray(at + 4, at + 4 + length));
    at += 4 + ((length + 3) & ~3);
  }
  return options;
}

/** The time of day here, with microseconds. */
function timeText(body: Buffer): string {
  const microseconds = body.readUInt32LE(4) * 2 ** 32 + body.readUInt32LE(8);
  const date = new Date(Math.floor(microseconds / 1000));
  const two = (number: number) => String(number).padStart(2, '0');
  const fraction = String(microseconds % 1_000_000).padStart(6, '0');
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${fraction}`;
}

function packetText(frame: Buffer, hasEthernet: boolean, length: number): string {
  let type = IPV4;
  let at = 0;
  if (hasEthernet) {
    type = frame.readUInt16BE(ETHERNET - 2);
    at = ETHERNET;
    if (VLANS.includes(type)) {
      type = frame.readUInt16BE(at + 2);
      at += 4;
    }
  }
  if (type !== IPV4 || frame.length < at + 20) return `ethertype 0x${type.toString(16).padStart(4, '0')}, length ${length}`;
  return ipText(frame.subarray(at));
}

function ipText(ip: Buffer): string {
  const header = ((ip[0] ?? 0) & 0xf) * 4;
  const total = ip.readUInt16BE(2);
  const protocol = ip[9] ?? 0;
  const name = PROTOCOLS[protocol] ?? `protocol ${protocol}`;
  const isFirst = (ip.readUInt16BE(6) & 0x1fff) === 0;
  const transport = ip.subarray(header);
  const hasPorts = isFirst && (name === 'tcp' || name === 'udp') && transport.length >= 8;
  const end = (from: number, port: number) =>
    `${ip.subarray(from, from + 4).join('.')}${hasPorts ? `:${transport.readUInt16BE(port)}` : ''}`;
  const more = isFirst ? transportText(name, transport, total - header) : `fragment, length ${total - header}`;
  return `${end(12, 0)} > ${end(16, 2)} ${name} ${more}`;
}

function transportText(name: string, transport: Buffer, length: number): string {
  if (name === 'tcp' && transport.length >= 14) {
    const bits = transport[13] ?? 0;
    const flags = FLAGS.filter((_, bit) => (bits & (1 << bit)) !== 0).join('');
    return `[${flags}] length ${length - ((transport[12] ?? 0) >> 4) * 4}`;
  }
  if (name === 'udp') return `length ${length - 8}`;
  if (name === 'icmp' && transport.length >= 2) return `type ${transport[0]} code ${transport[1]}, length ${length}`;
  return `length ${length}`;
}
