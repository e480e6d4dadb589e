/** The program of servers behind `dsr = "gue"` (native/bpf/server.bpf.c), made ready for one server: its script carries it as text. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { FailureError } from '../errors.ts';
import { ownFile } from '../own-files.ts';
import { parseAddress } from '../packet/address.ts';
import { knownAddresses } from './known-addresses.ts';

/** Ports that one program takes: GUE_PORTS of native/bpf/gue.h. */
export const GUE_PORTS_MAX = 4;

const OBJECT = ownFile('native/bpf/server.bpf.o');
/** In front of the settings, struct gue_settings of native/bpf/gue.h. */
const MARK = 'lb4-gue:';
/** Offsets behind it. */
const [PORTS_AT, HOPS_AT, SEED_AT, KNOWN_AT] = [4, 12, 16, 20] as const;
const LINE = /.{1,120}/g;

export interface GueObject {
  /** By its content: what stands in a kernel under another name is of another version, server or port, or knows other addresses. */
  readonly name: string;
  /** gzip and base64, a line break in front of each line. */
  readonly text: string;
}

export interface GueServer {
  /** Dotted IPv4. */
  readonly server: string;
  /** Of UDP, 1–{@link GUE_PORTS_MAX} of them. */
  readonly ports: readonly number[];
  /** What clients call, of either family; what is for another address is dropped. */
  readonly vips: readonly string[];
  /** Dotted IPv4: servers that a list of hops may name; undefined: any. */
  readonly hops: readonly string[] | undefined;
}

/** As it was when it was first asked for, as templates are (render.ts). */
let original: Buffer | undefined;

/** @throws FailureError where this lb4 was built without clang; RangeError for more addresses than a file of lb4's may hold */
export function gueObject({ server, ports, vips, hops }: GueServer): GueObject {
  original ??= readOriginal();
  const object = Buffer.from(original);
  const at = object.indexOf(MARK) + MARK.length;
  if (at < MARK.length) throw new Error(`${OBJECT} has lost its mark`);
  const { seed, places } = knownAddresses(vips, hops ?? []);
  object.writeInt32LE(parseAddress(server), at);
  for (const [index, port] of ports.entries()) object.writeUInt16BE(port, at + PORTS_AT + 2 * index);
  object.writeUInt32LE(hops === undefined ? 0 : 1, at + HOPS_AT);
  object.writeUInt32LE(seed, at + SEED_AT);
  places.copy(object, at + KNOWN_AT);
  const name = `lb4-gue-${createHash('sha256').update(object).digest('hex').slice(0, 8)}`;
  const text = gzipSync(object, { level: 9 }).toString('base64').replaceAll(LINE, '\n$&');
  return { name, text };
}

function readOriginal(): Buffer {
  if (existsSync(OBJECT)) return readFileSync(OBJECT);
  throw new FailureError(`rules: ${OBJECT} is not there: this lb4 was built without clang; servers can unwrap by --dialect fou`);
}
