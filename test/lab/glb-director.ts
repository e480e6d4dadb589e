/**
 * What GLB's director sends, after the facts of its documentation (docs/development of github/glb-director: glb-hashing.md, gue-header.md) and of its tests: a
 * second opinion, which shares no code with src/ and computes each row when it is asked for.
 */
import { referenceChecksum } from './packets.ts';

export type Field = 'source' | 'destination' | 'source_port' | 'destination_port';

export interface Backend {
  readonly ip: string;
  readonly state: 'filling' | 'active' | 'draining';
  readonly healthy: boolean;
}

export interface DirectorOptions {
  /** 32 hexadecimal digits each. */
  readonly hashKey: string;
  readonly seed: string;
  readonly backends: readonly Backend[];
  readonly fields: readonly Field[];
  readonly altFields?: readonly Field[];
  readonly source: string;
  readonly port: number;
}

const [ICMP, TCP, UDP] = [1, 6, 17];
const WORD = 2n ** 64n;
/** In which fields are hashed, whatever the order of their names. */
const ORDER: readonly Field[] = ['source', 'destination', 'source_port', 'destination_port'];

export class Director {
  readonly #options: DirectorOptions;

  constructor(options: DirectorOptions) {
    this.#options = options;
  }

  /** The IPv4 packet that a client's IPv4 packet becomes. */
  encapsulate(inner: Uint8Array): Uint8Array {
    const { fields, altFields, source, port } = this.#options;
    const asked = connectionOf(inner);
    const hash = this.#hash(asked, fields);
    const route = [...this.#route(hash), ...(altFields === undefined ? [] : this.#route(this.#hash(asked, altFields)))];
    const [first = '', ...hops] = route;
    const sourcePort = 0x8000 | ((Number(hash & 0xffffn) ^ asked.hint) & 0x7fff);
    const gue = [1 + hops.length, 4, 0, 0, 0, 0, 0, hops.length, ...hops.flatMap(quad)];
    const udpLength = 8 + gue.length + inner.length;
    const udp = [...be16(sourcePort), ...be16(port), ...be16(udpLength), 0, 0];
    const ip = [0x45, 0, ...be16(20 + udpLength), 0, 0, 0x40, 0, 64, UDP, 0, 0, ...quad(source), ...quad(first)];
    ip.splice(10, 2, ...be16(referenceChecksum(ip)));
    return Uint8Array.from([...ip, ...udp, ...gue, ...inner]);
  }

  #hash(asked: Asked, fields: readonly Field[]): bigint {
    const bytes = ORDER.filter((field) => fields.includes(field)).flatMap((field) => asked[field]);
    return littleEndian(sipHash(bytesOf(this.#options.hashKey), bytes));
  }

  /** Whom a row has first, and whom second. */
  #route(hash: bigint): string[] {
    const seed = bytesOf(this.#options.seed);
    const row = sipHash(seed, [0, 0, ...be16(Number(hash & 0xffffn))]);
    const scored = this.#options.backends.map((backend) => {
      const score = littleEndian(sipHash(seed, [...row, ...quad(backend.ip)]).toReversed());
      return { backend, score };
    });
    scored.sort((a, b) => (a.score < b.score ? -1 : 1));
    const [first, second] = scored.map(({ backend }) => backend);
    if (first === undefined) throw new Error('a table without a backend');
    if (second === undefined) return [first.ip];
    const gives = first.state === 'draining' || !first.healthy;
    return gives && second.state === 'active' && second.healthy ? [second.ip, first.ip] : [first.ip, second.ip];
  }
}

/** What is hashed of a packet: of an error that quotes an answer, the connection's in the direction of requests. */
interface Asked extends Readonly<Record<Field, number[]>> {
  readonly hint: number;
}

function connectionOf(ip: Uint8Array): Asked {
  const payload = ip.subarray(4 * (ip[0] & 15));
  const [source, destination] = [[...ip.subarray(12, 16)], [...ip.subarray(16, 20)]];
  if (ip[9] === ICMP && payload[0] === 3) {
    const quoted = connectionOf(payload.subarray(8));
    return {
      source: quoted.destination,
      destination: quoted.source,
      source_port: quoted.destination_port,
      destination_port: quoted.source_port,
      hint: number(quoted.destination_port),
    };
  }
  const hasPorts = ip[9] === TCP || ip[9] === UDP;
  const ports = hasPorts ? payload : new Uint8Array(4);
  const [source_port, destination_port] = [[...ports.subarray(0, 2)], [...ports.subarray(2, 4)]];
  return { source, destination, source_port, destination_port, hint: hasPorts ? number(source_port) : number([...ip.subarray(4, 6)]) };
}

/** SipHash-2-4 (Aumasson and Bernstein, 2012): the eight bytes of the digest. */
function sipHash(key: readonly number[], message: readonly number[]): number[] {
  const [k0, k1] = [littleEndian(key.slice(0, 8)), littleEndian(key.slice(8))];
  let [v0, v1, v2, v3] = [k0 ^ 0x736f6d6570736575n, k1 ^ 0x646f72616e646f6dn, k0 ^ 0x6c7967656e657261n, k1 ^ 0x7465646279746573n];
  const rounds = (count: number) => {
    for (let i = 0; i < count; i++) {
      v0 = (v0 + v1) % WORD;
      v1 = rotate(v1, 13n) ^ v0;
      v0 = rotate(v0, 32n);
      v2 = (v2 + v3) % WORD;
      v3 = rotate(v3, 16n) ^ v2;
      v0 = (v0 + v3) % WORD;
      v3 = rotate(v3, 21n) ^ v0;
      v2 = (v2 + v1) % WORD;
      v1 = rotate(v1, 17n) ^ v2;
      v2 = rotate(v2, 32n);
    }
  };
  const padded = [...message, ...Array.from({ length: (15 - (message.length % 8)) % 8 }, () => 0), message.length & 255];
  for (let at = 0; at < padded.length; at += 8) {
    const word = littleEndian(padded.slice(at, at + 8));
    v3 ^= word;
    rounds(2);
    v0 ^= word;
  }
  v2 ^= 0xffn;
  rounds(4);
  const digest = v0 ^ v1 ^ v2 ^ v3;
  return Array.from({ length: 8 }, (_, i) => Number((digest >> BigInt(8 * i)) & 0xffn));
}

function rotate(word: bigint, bits: bigint): bigint {
  return ((word << bits) | (word >> (64n - bits))) % WORD;
}

function littleEndian(bytes: readonly number[]): bigint {
  return bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}

function bytesOf(hex: string): number[] {
  return [...Buffer.from(hex, 'hex')];
}

function quad(address: string): number[] {
  return address.split('.').map(Number);
}

function be16(value: number): [number, number] {
  return [value >> 8, value & 255];
}

function number([high = 0, low = 0]: readonly number[]): number {
  return (high << 8) | low;
}
