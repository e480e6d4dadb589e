/**
 * The in-kernel filter: a classic BPF program (bpf(2), Documentation/networking/filter.rst) that lets up only frames
 * for our frontends, the replies of our servers, ICMP errors, and fragments of either. All other traffic of the host
 * costs it a dozen instructions and no copy.
 *
 * Loads are relative to the network header (SKF_NET_OFF), so that interfaces without Ethernet work alike.
 */
import { ICMP_ERRORS } from '../packet/fields.ts';

/** Address as an unsigned host-order number (192.0.2.1 is 0xc0000201), port in host order: the kernel compares them so. */
interface Listener {
  readonly address: number;
  readonly port: number;
  /** Its number in the IP header. */
  readonly protocol: number;
}

export interface FilterSpec {
  readonly frontends: readonly Listener[];
  readonly servers: readonly Listener[];
  /** What replies come to beside the frontends' addresses, as a Listener's. */
  readonly sources?: readonly number[];
  /** Destination ports of replies, inclusive. */
  readonly firstPort: number;
  readonly lastPort: number;
}

// struct sock_filter's opcodes (linux/bpf_common.h).
const LOAD_WORD = 0x20;
const LOAD_HALF = 0x28;
const LOAD_BYTE = 0x30;
const LOAD_WORD_X = 0x40;
const LOAD_BYTE_X = 0x50;
const LOAD_MEMORY = 0x60;
const STORE = 0x02;
const AND = 0x54;
const SHIFT_LEFT = 0x64;
const SHIFT_RIGHT = 0x74;
const TO_X = 0x07;
const JUMP = 0x05;
const IF_EQUAL = 0x15;
const IF_GREATER = 0x25;
const IF_GREATER_EQUAL = 0x35;
const IF_BITS = 0x45;
const RETURN = 0x06;

const NETWORK = 0xfff00000; // SKF_NET_OFF
const PROTOCOL = 9; // in the IP header
const PACKET_TYPE = 0xfffff004; // SKF_AD_OFF + SKF_AD_PKTTYPE
const ACCEPT = 0xffffffff;

/** BPF_MAXINSNS. */
const MAX_INSTRUCTIONS = 4096;

const [M_SOURCE, M_DESTINATION, M_PORTS] = [0, 1, 2];

/** The program, two words an instruction (io/native.ts). One too long for the kernel is replaced by a coarser one. */
export function packetFilter(spec: FilterSpec): Uint32Array {
  const fine = program(spec);
  return fine.length <= MAX_INSTRUCTIONS ? assemble(fine) : coarseFilter(protocolsIn(spec));
}

/**
 * Lets up all packets of these protocols to this host and ICMP errors: short enough for any kernel, and the pipeline drops what is not
 * ours.
 */
export function coarseFilter(protocols: readonly number[]): Uint32Array {
  return assemble([...toThisHost(), ...icmpOr(protocols), ...fragments(), accept()]);
}

type Instruction = readonly [code: number, jumpTrue: number, jumpFalse: number, k: number];

function program(spec: FilterSpec): Instruction[] {
  const ours = [...new Set([...spec.frontends.map(({ address }) => address), ...(spec.sources ?? [])])];
  const protocols = protocolsIn(spec);
  return [
    ...toThisHost(),
    ...addressedTo(ours),
    ...icmpOr(protocols),
    ...fragments(),
    ...loadPorts(),
    // Of a single one nothing is to be asked any more.
    ...(protocols.length === 1 ? endpoints(spec) : protocols.flatMap((protocol) => endpointsOf(protocol, spec))),
    drop(),
  ];
}

function protocolsIn({ frontends, servers }: FilterSpec): number[] {
  return [...new Set([...frontends, ...servers].map(({ protocol }) => protocol))];
}

/** Drops what is not addressed to this host: PACKET_HOST is 0. */
function toThisHost(): Instruction[] {
  return [op(LOAD_WORD, PACKET_TYPE), [IF_EQUAL, 1, 0, 0], drop()];
}

/** Drops what is not for one of `addresses`. */
function addressedTo(addresses: readonly number[]): Instruction[] {
  const tests = addresses.flatMap((address, i): Instruction[] => [[IF_EQUAL, 0, 1, address], op(JUMP, 2 * (addresses.length - i) - 1)]);
  return [op(LOAD_WORD, NETWORK + 16), ...tests, drop()];
}

/** Accepts ICMP errors, drops everything else that is of none of `protocols`. */
function icmpOr(protocols: readonly number[]): Instruction[] {
  const last = ICMP_ERRORS.length - 1;
  const errors: Instruction[] = [
    [IF_EQUAL, 1, 0, 1],
    drop(),
    ...loadHeaderLength(),
    op(LOAD_BYTE_X, NETWORK), // the ICMP type
    ...ICMP_ERRORS.map((type, i): Instruction => [IF_EQUAL, last - i, i === last ? 1 : 0, type]),
    accept(),
    drop(),
  ];
  // On, past this list.
  const ours = protocols.map((protocol, i): Instruction => [IF_EQUAL, protocols.length - 1 - i + errors.length, 0, protocol]);
  return [op(LOAD_BYTE, NETWORK + PROTOCOL), ...ours, ...errors];
}

/**
 * Accepts a fragment that the kernel did not put together: the pipeline counts and drops it. The first has ports, and shall not pass for
 * whole.
 */
function fragments(): Instruction[] {
  return [op(LOAD_HALF, NETWORK + 6), [IF_BITS, 0, 1, 0x3fff], accept()];
}

/** What is of `protocol` is judged here; all else goes on behind it. */
function endpointsOf(protocol: number, { frontends, servers, ...ports }: FilterSpec): Instruction[] {
  const isOf = (one: Listener) => one.protocol === protocol;
  const body = [...endpoints({ ...ports, frontends: frontends.filter(isOf), servers: servers.filter(isOf) }), drop()];
  return [op(LOAD_BYTE, NETWORK + PROTOCOL), [IF_EQUAL, 1, 0, protocol], op(JUMP, body.length), ...body];
}

function endpoints(spec: FilterSpec): Instruction[] {
  return [...frontendPorts(spec), ...replies(spec)];
}

/** X = the IP header's length. */
function loadHeaderLength(): Instruction[] {
  return [op(LOAD_BYTE, NETWORK), op(AND, 0xf), op(SHIFT_LEFT, 2), op(TO_X, 0)];
}

function loadPorts(): Instruction[] {
  return [
    op(LOAD_WORD, NETWORK + 12),
    op(STORE, M_SOURCE),
    op(LOAD_WORD, NETWORK + 16),
    op(STORE, M_DESTINATION),
    ...loadHeaderLength(),
    op(LOAD_WORD_X, NETWORK),
    op(STORE, M_PORTS),
  ];
}

/** Accepts what is for a frontend: by address, then by port. */
function frontendPorts({ frontends }: FilterSpec): Instruction[] {
  return byAddress(frontends, M_DESTINATION, [op(LOAD_MEMORY, M_PORTS), op(AND, 0xffff)]);
}

/** Accepts what comes from a server to a port of the pools. */
function replies({ servers, firstPort, lastPort }: FilterSpec): Instruction[] {
  return [
    op(LOAD_MEMORY, M_PORTS),
    op(AND, 0xffff),
    [IF_GREATER_EQUAL, 1, 0, firstPort],
    drop(),
    [IF_GREATER, 0, 1, lastPort],
    drop(),
    ...byAddress(servers, M_SOURCE, [op(LOAD_MEMORY, M_PORTS), op(SHIFT_RIGHT, 16)]),
  ];
}

/** For each address: if it stands in `memory`, accept when the port that `loadPort` loads is one of its own. */
function byAddress(pairs: readonly Listener[], memory: number, loadPort: readonly Instruction[]): Instruction[] {
  const groups = new Map<number, Set<number>>();
  for (const { address, port } of pairs) groups.set(address, (groups.get(address) ?? new Set()).add(port));
  return [...groups].flatMap(([address, ports]) => {
    const body = [...loadPort, ...[...ports].flatMap((port): Instruction[] => [[IF_EQUAL, 0, 1, port], accept()])];
    // A conditional jump reaches 255 instructions, JUMP any number.
    return [op(LOAD_MEMORY, memory), [IF_EQUAL, 1, 0, address] as Instruction, op(JUMP, body.length), ...body];
  });
}

function op(code: number, k: number): Instruction {
  return [code, 0, 0, k];
}

function accept(): Instruction {
  return op(RETURN, ACCEPT);
}

function drop(): Instruction {
  return op(RETURN, 0);
}

function assemble(instructions: readonly Instruction[]): Uint32Array {
  return Uint32Array.from(instructions.flatMap(([code, jt, jf, k]) => [(code | (jt << 16) | (jf << 24)) >>> 0, k >>> 0]));
}
