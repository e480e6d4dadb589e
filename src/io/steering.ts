/**
 * The rule of packet/steering.ts in classic BPF: the kernel runs it for each frame (PACKET_FANOUT_CBPF, packet(7)), and gives the frame to
 * the socket of the number that it returns.
 */
import { CLIENT_PORTS } from '../layout/ports.ts';
import { ICMP, ICMP_ERRORS, ICMP_HEADER, TCP, UDP } from '../packet/fields.ts';
import { FACTORS, SHIFTS } from '../packet/steering.ts';
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

/** What a packet is steered by beside its destination port, which is in A: its source address and port. */
const [M_SOURCE, M_PORT] = [0, 1];

/** Returns what `workerOfFrame` does, for the same key and number of workers. */
export function steeringProgram(key: number, workers: number): Uint32Array {
  const ports = tuple();
  const errors = [...quotedTuple(), op(B.JUMP, ports.length)];
  const toPorts = errors.length + 1; // past the errors, and whose none of these is
  return B.assemble([
    op(B.LOAD_HALF, START + B.FRAGMENT),
    [B.IF_BITS, 0, 1, B.FRAGMENT_BITS],
    firstWorkers(),
    op(B.LOAD_BYTE, START + B.PROTOCOL),
    [B.IF_EQUAL, toPorts + 2, 0, TCP],
    [B.IF_EQUAL, toPorts + 1, 0, UDP],
    [B.IF_EQUAL, 1, 0, ICMP],
    firstWorkers(),
    ...errors,
    ...ports,
    ...ofPool(workers),
    ...byHash(key, workers),
  ]);
}

function firstWorkers(): Instruction {
  return op(B.RETURN, 0);
}

function tuple(): Instruction[] {
  return [
    op(B.LOAD_WORD, START + B.SOURCE),
    op(B.STORE, M_SOURCE),
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
function quotedTuple(): Instruction[] {
  return [
    ...headerLength(B.LOAD_BYTE, START),
    op(B.TO_X),
    op(B.LOAD_BYTE_X, START), // the ICMP type
    ...skipIf(ICMP_ERRORS),
    firstWorkers(),
    op(B.LOAD_WORD_X, QUOTED + B.DESTINATION),
    op(B.STORE, M_SOURCE),
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
