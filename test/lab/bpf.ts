/** Classic BPF as the kernel takes and runs it. */
import { expect } from 'vitest';

/** PACKET_HOST: to this host. */
export const HOST = 0;

const BEYOND = Symbol('beyond the packet');
const [SKF_NET_OFF, SKF_AD_PKTTYPE, SKF_AD_IFINDEX] = [0xfff00000, 0xfffff004, 0xfffff008];

/** As much of it (bpf(4), linux/filter.h) as lb4 uses: what the program returns for a packet that begins with its IP header. */
export function run(program: Uint32Array, packet: Uint8Array, packetType = HOST, ifindex = 1): number {
  const memory = new Map<number, number>();
  let [a, x] = [0, 0];
  const load = (offset: number, size: number) => {
    if (offset === SKF_AD_PKTTYPE) return packetType;
    if (offset === SKF_AD_IFINDEX) return ifindex;
    // A program of a fanout group runs where a frame's data begins with its IP header, too.
    const at = offset >= SKF_NET_OFF ? offset - SKF_NET_OFF : offset;
    if (at < 0 || at + size > packet.length) throw BEYOND;
    return packet.subarray(at, at + size).reduce((value, byte) => value * 256 + byte, 0);
  };
  const stored = (k: number) => {
    const value = memory.get(k);
    if (value === undefined) throw new Error(`M[${k}] is read before it is written: the kernel refuses that`);
    return value;
  };
  try {
    for (let pc = 0; ; pc++) {
      const { code, jt, jf, k } = instruction(program, pc);
      const jump = (taken: boolean) => (pc += taken ? jt : jf);
      if (code === 0x20) a = load(k, 4);
      else if (code === 0x28) a = load(k, 2);
      else if (code === 0x30) a = load(k, 1);
      else if (code === 0x40) a = load(k + x, 4);
      else if (code === 0x48) a = load(k + x, 2);
      else if (code === 0x50) a = load(k + x, 1);
      else if (code === 0x60) a = stored(k);
      else if (code === 0x02) memory.set(k, a);
      else if (code === 0x07) x = a;
      else if (code === 0x87) a = x;
      else if (code === 0x05) pc += k;
      else if (code === 0x15) jump(a === k);
      else if (code === 0x25) jump(a > k);
      else if (code === 0x35) jump(a >= k);
      else if (code === 0x45) jump((a & k) !== 0);
      else if (code === 0x06) return k;
      else if (code === 0x16) return a;
      else if ((code & 7) === 4) a = calculate(code & 0xf0, a, code & 8 ? x : k);
      else throw new Error(`opcode ${code} at ${pc}`);
    }
  } catch (error) {
    if (error === BEYOND) return 0;
    throw error;
  }
}

/** In 32 bits, by BigInt: another way than the one under test. */
function calculate(operation: number, a: number, operand: number): number {
  const [left, right] = [BigInt(a), BigInt(operand)];
  if (operation === 0x00) return Number(BigInt.asUintN(32, left + right));
  if (operation === 0x10) return Number(BigInt.asUintN(32, left - right));
  if (operation === 0x20) return Number(BigInt.asUintN(32, left * right));
  if (operation === 0x50) return Number(left & right);
  if (operation === 0x60) return Number(BigInt.asUintN(32, left << right));
  if (operation === 0x70) return Number(left >> right);
  if (operation === 0x90) return Number(left % right);
  if (operation === 0xa0) return Number(left ^ right);
  throw new Error(`arithmetic ${operation}`);
}

/** What the kernel's bpf_check_classic asks of a program. */
export function checkProgram(program: Uint32Array): void {
  const length = program.length / 2;
  expect(length).toBeGreaterThan(0);
  expect(length).toBeLessThanOrEqual(4096);
  for (let pc = 0; pc < length; pc++) {
    const { code, jt, jf, k } = instruction(program, pc);
    if (code === 0x05 && pc + k + 1 >= length) throw new Error(`jump out of the program at ${pc}`);
    if ((code & 7) === 5 && code !== 0x05 && pc + Math.max(jt, jf) + 1 >= length) throw new Error(`branch out of the program at ${pc}`);
    if (code === 0x94 && k === 0) throw new Error(`division by 0 at ${pc}`);
    if ((code === 0x64 || code === 0x74) && k >= 32) throw new Error(`shift by ${k} at ${pc}`);
  }
  expect([0x06, 0x16]).toContain(program[program.length - 2] & 0xffff);
}

function instruction(program: Uint32Array, pc: number) {
  const word = program[pc * 2];
  return { code: word & 0xffff, jt: (word >>> 16) & 0xff, jf: word >>> 24, k: program[pc * 2 + 1] };
}
