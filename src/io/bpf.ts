/**
 * Classic BPF (bpf(4), Documentation/networking/filter.rst), as the kernel's programs of lb4 are written in: which frames come up
 * (filter.ts), and to whom (steering.ts). Not eBPF: the kernel makes that of it, and compiles it, itself; bpf(2) is what many hosts do not
 * allow, and lb4 goes on without the fast path (native/bpf) there.
 *
 * Loads are relative to the network header (SKF_NET_OFF), so that interfaces without Ethernet work alike. One that reaches beyond the
 * packet ends the program, which then returns 0.
 */

/** Jumps count from the next instruction. */
export type Instruction = readonly [code: number, jumpTrue: number, jumpFalse: number, k: number];

// struct sock_filter's opcodes (linux/bpf_common.h). A and X are 32 bits wide, and unsigned.
export const LOAD_WORD = 0x20;
export const LOAD_HALF = 0x28;
export const LOAD_BYTE = 0x30;
export const LOAD_WORD_X = 0x40;
export const LOAD_BYTE_X = 0x50;
export const LOAD_MEMORY = 0x60;
export const STORE = 0x02;
export const SUBTRACT = 0x14;
export const MULTIPLY = 0x24;
export const MODULO = 0x94;
export const AND = 0x54;
export const XOR = 0xa4;
export const SHIFT_LEFT = 0x64;
export const SHIFT_RIGHT = 0x74;
export const ADD_X = 0x0c;
export const XOR_X = 0xac;
export const TO_X = 0x07;
export const FROM_X = 0x87;
export const JUMP = 0x05;
export const IF_EQUAL = 0x15;
export const IF_GREATER = 0x25;
export const IF_GREATER_EQUAL = 0x35;
export const IF_BITS = 0x45;
export const RETURN = 0x06;
export const RETURN_A = 0x16;

/** SKF_NET_OFF: the first byte of the IP header. */
export const NETWORK = 0xfff00000;

// Bytes of the IP header (RFC 791).
export const FRAGMENT = 6;
export const PROTOCOL = 9;
export const SOURCE = 12;
export const DESTINATION = 16;
/** MF and the offset, of the half word FRAGMENT. */
export const FRAGMENT_BITS = 0x3fff;
/** The same without MF: set in later fragments alone. */
export const LATER_FRAGMENT_BITS = 0x1fff;

export function op(code: number, k = 0): Instruction {
  return [code, 0, 0, k];
}

/** Passes over the next instruction where A is one of `values`. */
export function skipIf(values: readonly number[]): Instruction[] {
  return values.map((value, i) => [IF_EQUAL, values.length - i, 0, value]);
}

/** A = the length in bytes of the IP header whose first byte `load` loads from `at`. */
export function headerLength(load: typeof LOAD_BYTE | typeof LOAD_BYTE_X = LOAD_BYTE, at = NETWORK): Instruction[] {
  return [op(load, at), op(AND, 0xf), op(SHIFT_LEFT, 2)];
}

/** Two words an instruction (io/native.ts). */
export function assemble(instructions: readonly Instruction[]): Uint32Array {
  return Uint32Array.from(instructions.flatMap(([code, jt, jf, k]) => [(code | (jt << 16) | (jf << 24)) >>> 0, k >>> 0]));
}
