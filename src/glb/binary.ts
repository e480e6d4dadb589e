/**
 * The table that glb-director loads, byte for byte as `glb-director-cli build-config` writes it: little-endian, version 2, every place for servers and
 * addresses there, whether it is taken or not.
 */
import { type GlbState, glbTable, ROWS, rankRows, type Standing } from '../balance/glb-table.ts';
import { addressBytes } from '../ip.ts';
import { parseAddress } from '../packet/address.ts';
import { type Bind, type ForwardingTable, MOST_BACKENDS, MOST_BINDS, type TableBackend } from './forwarding-table.ts';

const MAGIC = 'GLBD';
const VERSION = 2;
const HEADER_BYTES = 24;
const COUNT_BYTES = 4;
const BACKEND_BYTES = 24;
const BIND_BYTES = 28;
const KEY_BYTES = 16;
const ROW_BYTES = 8;
const TABLE_BYTES = 2 * COUNT_BYTES + MOST_BACKENDS * BACKEND_BYTES + MOST_BINDS * BIND_BYTES + KEY_BYTES + ROWS * ROW_BYTES;

/** Of the IANA's address family numbers. */
const FAMILY = { 4: 1, 6: 2 } as const;
const PROTOCOL = { tcp: 6, udp: 17 } as const;
const STATE = { filling: 0, active: 1, draining: 2, inactive: 2 } as const satisfies Record<GlbState, number>;

/** @param tables without a mistake; one at least of each one's servers is not inactive */
export function binaryTables(tables: readonly ForwardingTable[]): Buffer {
  const file = Buffer.alloc(HEADER_BYTES + tables.length * TABLE_BYTES);
  file.write(MAGIC, 'latin1');
  for (const [i, number] of [VERSION, tables.length, ROWS, MOST_BACKENDS, MOST_BINDS].entries()) file.writeUInt32LE(number, 4 + 4 * i);
  for (const [i, table] of tables.entries())
    writeTable(file.subarray(HEADER_BYTES + i * TABLE_BYTES, HEADER_BYTES + (i + 1) * TABLE_BYTES), table);
  return file;
}

function writeTable(into: Buffer, { hashKey, seed, binds, backends }: ForwardingTable): void {
  let at = into.writeUInt32LE(backends.length);
  for (const [i, backend] of backends.entries()) writeBackend(into.subarray(at + i * BACKEND_BYTES), backend);
  at = into.writeUInt32LE(binds.length, at + MOST_BACKENDS * BACKEND_BYTES);
  for (const [i, bind] of binds.entries()) writeBind(into.subarray(at + i * BIND_BYTES), bind);
  at += MOST_BINDS * BIND_BYTES;
  at += into.write(hashKey, at, 'hex');
  for (const position of rowsOf(seed, backends)) at = into.writeUInt32LE(position, at);
}

function writeBackend(into: Buffer, { ip, state, healthy }: TableBackend): void {
  into.writeUInt32LE(FAMILY[4]);
  addressBytes(ip).copy(into, 4);
  into.writeUInt16LE(STATE[state], 20);
  into.writeUInt16LE(Number(isHealthy(healthy)), 22);
}

function writeBind(into: Buffer, { ip, family, bits, protocol, firstPort, lastPort }: Bind): void {
  into.writeUInt32LE(FAMILY[family]);
  addressBytes(ip).copy(into, 4);
  into.writeUInt16LE(bits, 20);
  into.writeUInt16LE(firstPort, 22);
  into.writeUInt16LE(lastPort, 24);
  into.writeUInt8(PROTOCOL[protocol], 26);
}

/** Of each row primary and secondary, by GLB's own rule. */
function rowsOf(seed: string, backends: readonly TableBackend[]): Uint16Array {
  const standings = backends.flatMap(({ state, healthy }, position): Standing[] => {
    return state === 'inactive' ? [] : [{ position, state, healthy: isHealthy(healthy) }];
  });
  const addresses = standings.map(({ position }) => parseAddress(backends[position]?.ip ?? ''));
  return glbTable(rankRows(seed, addresses), standings, 'state');
}

/** GLB's program takes one of whom nobody says for unhealthy. */
function isHealthy(healthy: boolean | undefined): boolean {
  return healthy === true;
}
