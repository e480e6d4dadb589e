/** The in-kernel filter between interfaces: a classic BPF program (bpf.ts) that lets up whatever comes by one of some, and nothing else. */
import { assemble, IF_EQUAL, type Instruction, LOAD_WORD, op, RETURN } from './bpf.ts';

const INTERFACE = 0xfffff008; // SKF_AD_OFF + SKF_AD_IFINDEX
const ACCEPT = 0xffffffff;

/** The program, two words an instruction (io/native.ts), for up to 64 interface indexes. */
export function portFilter(ports: readonly number[]): Uint32Array {
  const tests = ports.map((port, i): Instruction => [IF_EQUAL, ports.length - i, 0, port]);
  return assemble([op(LOAD_WORD, INTERFACE), ...tests, op(RETURN, 0), op(RETURN, ACCEPT)]);
}
