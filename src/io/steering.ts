/**
 * The rule of packet/steering.ts in classic BPF: the kernel runs it for each frame (PACKET_FANOUT_CBPF, packet(7)), and gives the frame to
 * the socket of the number that it returns.
 */
import { CLIENT_PORTS } from '../layout/ports.ts';
import { swap32 } from '../packet/address.ts';
import { ICMP, ICMP_ERRORS, ICMP_HEADER, TCP, UDP } from '../packet/fields.ts';
import { FACTORS, type Ours, SHIFTS } from '../packet/steering.ts';
import * as B from './bpf.ts';
import { headerLength, type Instruction, op, skipIf } from './bpf.ts';

/**
 * Where the IP header is: the kernel runs the program before it puts the link header back (net/packet/af_packet.c, packet_rcv_fanout). Unlike
 * SKF_NET_OFF, which until Linux 6.16 reaches only as much of a frame as its driver has copied (often no more than headers), this finds the
 * packet that an ICMP error quotes.
 */
const START = 0;
/** Where the packet that an ICMP error quotes begins, with X the length of the IP header. */
const QUOTED = START + ICMP_HEADER;

/** What a packet is steered by beside its destination port, which is in A: its source address and port, and its destination address. */
const [M_SOURCE, M_PORT, M_DESTINATION] = [0, 1, 2];
/** That port, where {@link ofOthers} needs A for something else. */
const M_TO = 3;

/** Addresses that are compared one by one at the leaves of a tree over them: with as many, it needs the fewest instructions. */
const LEAF = 8;
/** BPF_MAXINSNS. */
const MAX_INSTRUCTIONS = 4096;
/** Addresses of {@link Ours} that a program has room for. */
export const MOST_OURS = 1_500;

/**
 * Returns what `workerOfFrame` does, for the same key and number of workers.
 * @throws RangeError where `ours` has more than MOST_OURS addresses: the kernel takes no program that long
 */
export function steeringProgram(key: number, workers: number, ours?: Ours): Uint32Array {
  const isAsked = ours !== undefined;
  const ports = tuple(isAsked);
  const errors = [...quotedTuple(isAsked), op(B.JUMP, ports.length)];
  const toPorts = errors.length + 1; // past the errors, and whose none of these is
  const program = [
    op(B.LOAD_HALF, START + B.FRAGMENT),
    [B.IF_BITS, 0, 1, B.FRAGMENT_BITS] as Instruction,
    firstWorkers(),
    op(B.LOAD_BYTE, START + B.PROTOCOL),
    [B.IF_EQUAL, toPorts + 2, 0, TCP] as Instruction,
    [B.IF_EQUAL, toPorts + 1, 0, UDP] as Instruction,
    [B.IF_EQUAL, 1, 0, ICMP] as Instruction,
    firstWorkers(),
    ...errors,
    ...ports,
    ...(isAsked ? ofOthers(ours, key, workers) : []),
    ...ofPool(workers),
    ...byHash(key, workers),
  ];
  if (program.length > MAX_INSTRUCTIONS) throw new RangeError(`steering by ${ours?.size} addresses: more than ${MOST_OURS}`);
  return B.assemble(program);
}

function firstWorkers(): Instruction {
  return op(B.RETURN, 0);
}

/** @param isAsked whether it matters to whom it goes */
function tuple(isAsked: boolean): Instruction[] {
  const destination = isAsked ? [op(B.LOAD_WORD, START + B.DESTINATION), op(B.STORE, M_DESTINATION)] : [];
  return [
    op(B.LOAD_WORD, START + B.SOURCE),
    op(B.STORE, M_SOURCE),
    ...destination,
    ...headerLength(B.LOAD_BYTE, START),
    op(B.TO_X),
    op(B.LOAD_WORD_X, START),
    op(B.TO_X),
    op(B.SHIFT_RIGHT, 16),
    op(B.STORE, M_PORT),
    op(B.FROM_X),
    op(B.AND, 0xffff),
  ];
}

/** Of the packet that an error quotes, turned round. */
function quotedTuple(isAsked: boolean): Instruction[] {
  const destination = isAsked ? [op(B.LOAD_WORD_X, QUOTED + B.SOURCE), op(B.STORE, M_DESTINATION)] : [];
  return [
    ...headerLength(B.LOAD_BYTE, START),
    op(B.TO_X),
    op(B.LOAD_BYTE_X, START), // the ICMP type
    ...skipIf(ICMP_ERRORS),
    firstWorkers(),
    op(B.LOAD_BYTE_X, QUOTED + B.PROTOCOL),
    [B.IF_EQUAL, 0, 1, ICMP],
    firstWorkers(),
    op(B.LOAD_WORD_X, QUOTED + B.DESTINATION),
    op(B.STORE, M_SOURCE),
    ...destination,
    ...headerLength(B.LOAD_BYTE_X, QUOTED),
    op(B.ADD_X),
    op(B.TO_X),
    op(B.LOAD_WORD_X, QUOTED),
    op(B.TO_X),
    op(B.AND, 0xffff),
    op(B.STORE, M_PORT),
    op(B.FROM_X),
    op(B.SHIFT_RIGHT, 16),
  ];
}

/** Ends here where the packet goes to nobody of ours: it is an answer, and steered as what its client sends. A is what it was otherwise. */
function ofOthers(ours: Ours, key: number, workers: number): Instruction[] {
  const client = [op(B.LOAD_MEMORY, M_DESTINATION), op(B.STORE, M_SOURCE)];
  const answers = [op(B.LOAD_MEMORY, M_TO), op(B.STORE, M_PORT), ...client, ...byHash(key, workers)];
  const sorted = [...ours].map((address) => swap32(address) >>> 0).sort((a, b) => a - b);
  return [op(B.STORE, M_TO), op(B.LOAD_MEMORY, M_DESTINATION), ...search(sorted, 0, answers.length), ...answers, op(B.LOAD_MEMORY, M_TO)];
}

/** Goes on `toOthers` instructions behind itself where A is none of `sorted`, and `toOurs` behind itself where it is. */
function search(sorted: readonly number[], toOthers: number, toOurs: number): Instruction[] {
  if (sorted.length <= LEAF) {
    const tests = sorted.map((address, i): Instruction => [B.IF_EQUAL, sorted.length - i, 0, address]);
    return [...tests, op(B.JUMP, 1 + toOthers), op(B.JUMP, toOurs)];
  }
  const half = sorted.length >>> 1;
  const above = search(sorted.slice(half), toOthers, toOurs);
  const below = search(sorted.slice(0, half), toOthers + above.length, toOurs + above.length);
  return [[B.IF_GREATER_EQUAL, 0, 1, sorted[half]], op(B.JUMP, below.length), ...below, ...above];
}

/** Ends here where the port is of the pools. */
function ofPool(workers: number): Instruction[] {
  return [
    [B.IF_GREATER_EQUAL, 0, 4, CLIENT_PORTS.first],
    [B.IF_GREATER, 3, 0, CLIENT_PORTS.last],
    op(B.SUBTRACT, CLIENT_PORTS.first),
    op(B.MODULO, workers),
    op(B.RETURN_A),
  ];
}

function byHash(key: number, workers: number): Instruction[] {
  return [
    op(B.LOAD_MEMORY, M_SOURCE),
    op(B.XOR, key),
    ...scramble(),
    op(B.TO_X),
    op(B.LOAD_MEMORY, M_PORT),
    op(B.ADD_X),
    ...scramble(),
    op(B.MODULO, workers),
    op(B.RETURN_A),
  ];
}

function scramble(): Instruction[] {
  return SHIFTS.flatMap((shift, i) => [
    op(B.TO_X),
    op(B.SHIFT_RIGHT, shift),
    op(B.XOR_X),
    ...FACTORS.slice(i, i + 1).map((factor) => op(B.MULTIPLY, factor)),
  ]);
}
