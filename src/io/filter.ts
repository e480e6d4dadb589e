/**
 * The in-kernel filter: a classic BPF program (bpf.ts) that lets up only frames for our frontends, the replies of our servers, ICMP
 * errors, and fragments of either. All other traffic of the host costs it a dozen instructions and no copy.
 */
import { ICMP, ICMP_ERRORS } from '../packet/fields.ts';
import {
  AND,
  assemble,
  DESTINATION,
  FRAGMENT,
  FRAGMENT_BITS,
  headerLength,
  IF_BITS,
  IF_EQUAL,
  IF_GREATER,
  IF_GREATER_EQUAL,
  type Instruction,
  JUMP,
  LOAD_BYTE,
  LOAD_BYTE_X,
  LOAD_HALF,
  LOAD_MEMORY,
  LOAD_WORD,
  LOAD_WORD_X,
  NETWORK,
  op,
  PROTOCOL,
  RETURN,
  SHIFT_RIGHT,
  SOURCE,
  STORE,
  skipIf,
  TO_X,
} from './bpf.ts';

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
  return [op(LOAD_WORD, NETWORK + DESTINATION), ...tests, drop()];
}

/** Accepts ICMP errors, drops everything else that is of none of `protocols`. */
function icmpOr(protocols: readonly number[]): Instruction[] {
  const errors: Instruction[] = [
    [IF_EQUAL, 1, 0, ICMP],
    drop(),
    ...headerLength(),
    op(TO_X),
    op(LOAD_BYTE_X, NETWORK), // the ICMP type
    ...skipIf(ICMP_ERRORS),
    drop(),
    accept(),
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
  return [op(LOAD_HALF, NETWORK + FRAGMENT), [IF_BITS, 0, 1, FRAGMENT_BITS], accept()];
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

function loadPorts(): Instruction[] {
  return [
    op(LOAD_WORD, NETWORK + SOURCE),
    op(STORE, M_SOURCE),
    op(LOAD_WORD, NETWORK + DESTINATION),
    op(STORE, M_DESTINATION),
    ...headerLength(),
    op(TO_X),
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

function accept(): Instruction {
  return op(RETURN, ACCEPT);
}

function drop(): Instruction {
  return op(RETURN, 0);
}
