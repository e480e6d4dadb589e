/** The program of servers behind `dsr = "gue"` (native/bpf/server.bpf.c), made ready for one server: its script carries it as text. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { FailureError } from '../errors.ts';
import { ownFile } from '../own-files.ts';
import { parseAddress } from '../packet/address.ts';

/** Ports that one program takes: GUE_PORTS of native/bpf/gue.h. */
export const GUE_PORTS_MAX = 4;

const OBJECT = ownFile('native/bpf/server.bpf.o');
/** In front of the settings, struct gue_settings of native/bpf/gue.h. */
const MARK = 'lb4-gue:';
const LINE = /.{1,120}/g;

export interface GueObject {
  /** By its content: what stands in a kernel under another name is of another version, server or port. */
  readonly name: string;
  /** gzip and base64, a line break in front of each line. */
  readonly text: string;
}

/** As it was when it was first asked for, as templates are (render.ts). */
let original: Buffer | undefined;

/**
 * @param server dotted IPv4
 * @param ports of UDP, 1–{@link GUE_PORTS_MAX} of them
 * @throws FailureError where this lb4 was built without clang
 */
export function gueObject(server: string, ports: readonly number[]): GueObject {
  original ??= readOriginal();
  const object = Buffer.from(original);
  const at = object.indexOf(MARK) + MARK.length;
  if (at < MARK.length) throw new Error(`${OBJECT} has lost its mark`);
  object.writeInt32LE(parseAddress(server), at);
  for (const [index, port] of ports.entries()) object.writeUInt16BE(port, at + 4 + 2 * index);
  const name = `lb4-gue-${createHash('sha256').update(object).digest('hex').slice(0, 8)}`;
  const text = gzipSync(object, { level: 9 }).toString('base64').replaceAll(LINE, '\n$&');
  return { name, text };
}

function readOriginal(): Buffer {
  if (existsSync(OBJECT)) return readFileSync(OBJECT);
  throw new FailureError(`rules: ${OBJECT} is not there: this lb4 was built without clang; servers can unwrap by --dialect fou`);
}
