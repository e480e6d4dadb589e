/**
 * The in-kernel filter: a classic BPF program (bpf.ts) that lets up only frames for our frontends, the replies of our servers, ICMP
 * errors, and fragments of either; pings of our addresses, and what our servers answer to those; and of what is on its way through this
 * host answers of servers to their clients, and errors about what these were sent. All other traffic of the host costs it a dozen
 * instructions and no copy.
 */
import { ICMP, ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, ICMP_ERRORS, ICMP_HEADER } from '../packet/fields.ts';
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

/** Who takes part in pings; addresses as a Listener's. */
export interface Echo {
  /** Those of ours that are pinged. */
  readonly addresses: readonly number[];
  /** Servers that are pinged on behalf of others, and answer to us. */
  readonly servers: readonly number[];
  /** And those that answer the client, through this host. */
  readonly returning?: readonly number[];
}

export interface FilterSpec {
  readonly frontends: readonly Listener[];
  readonly servers: readonly Listener[];
  /** Servers that answer clients, through this host: whichever address that is. */
  readonly returning?: readonly Listener[];
  readonly echo?: Echo;
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
const NOBODY: Echo = { addresses: [], servers: [] };

/** The program, two words an instruction (io/native.ts). One too long for the kernel is replaced by a coarser one. */
export function packetFilter(spec: FilterSpec): Uint32Array {
  const fine = program(spec);
  return fine.length <= MAX_INSTRUCTIONS ? assemble(fine) : coarseFilter(protocolsIn(spec), spec.echo !== undefined);
}

/**
 * Lets up all packets of these protocols to this host and ICMP errors: short enough for any kernel, and the pipeline drops what is not
 * ours.
 * @param hasEchoes pings and what answers them, too
 */
export function coarseFilter(protocols: readonly number[], hasEchoes = false): Uint32Array {
  const types = hasEchoes ? [...ICMP_ERRORS, ICMP_ECHO_REQUEST, ICMP_ECHO_REPLY] : ICMP_ERRORS;
  return assemble([...toThisHost(), ...icmpOr(protocols, icmpOf(types, [])), ...fragments(), accept()]);
}

function program(spec: FilterSpec): Instruction[] {
  const ours = addressesOf(spec);
  const protocols = protocolsIn(spec);
  return [
    ...toThisHost(),
    ...addressedTo(ours, toOthers(spec)),
    ...icmpOr(protocols, icmpOf(ICMP_ERRORS, echoes(spec.echo))),
    ...fragments(),
    ...loadPorts(),
    // Of a single one nothing is to be asked any more.
    ...(protocols.length === 1 ? endpoints(spec) : protocols.flatMap((protocol) => endpointsOf(protocol, spec))),
    drop(),
  ];
}

/** Ours. */
export function addressesOf({ frontends, sources = [], echo = NOBODY }: FilterSpec): number[] {
  return [...new Set([...frontends.map(({ address }) => address), ...sources, ...echo.addresses])];
}

function protocolsIn({ frontends, servers, returning = [] }: FilterSpec): number[] {
  return [...new Set([...frontends, ...servers, ...returning].map(({ protocol }) => protocol))];
}

/** Drops what is not addressed to this host: PACKET_HOST is 0. */
export function toThisHost(): Instruction[] {
  return [op(LOAD_WORD, PACKET_TYPE), [IF_EQUAL, 1, 0, 0], drop()];
}

/** What is not for one of `addresses` is judged by `others`. */
function addressedTo(addresses: readonly number[], others: readonly Instruction[]): Instruction[] {
  const tests = addresses.flatMap((address, i): Instruction[] => {
    return [[IF_EQUAL, 0, 1, address], op(JUMP, 2 * (addresses.length - 1 - i) + others.length)];
  });
  return [op(LOAD_WORD, NETWORK + DESTINATION), ...tests, ...others];
}

/** Judges ICMP by `icmp`, drops everything else that is of none of `protocols`. */
function icmpOr(protocols: readonly number[], icmp: readonly Instruction[]): Instruction[] {
  const other: Instruction[] = [[IF_EQUAL, 1, 0, ICMP], drop(), ...icmp];
  // On, past this list. A conditional jump may not reach that far.
  const ours = protocols.flatMap((protocol, i): Instruction[] => {
    const rest = (protocols.length - 1 - i) * 2 + other.length;
    return [[IF_EQUAL, 0, 1, protocol], op(JUMP, rest)];
  });
  const near = protocols.map((protocol, i): Instruction => [IF_EQUAL, protocols.length - 1 - i + other.length, 0, protocol]);
  return [op(LOAD_BYTE, NETWORK + PROTOCOL), ...(protocols.length + other.length < 256 ? near : ours), ...other];
}

/** Accepts messages of `types`; others are judged by `rest`, with the type in A. */
function icmpOf(types: readonly number[], rest: readonly Instruction[]): Instruction[] {
  const [load, test] = [[...headerLength(), op(TO_X), op(LOAD_BYTE_X, NETWORK)], skipIf(types)];
  if (rest.length === 0) return [...load, ...test, drop(), accept()];
  return [...load, ...test, op(JUMP, 1), accept(), ...rest];
}

/** Accepts pings of ours, and what answers those that went on; its type is in A. Nothing where nobody is pinged. */
function echoes({ addresses, servers }: Echo = NOBODY): Instruction[] {
  if (addresses.length === 0 && servers.length === 0) return [];
  return [...ofType(ICMP_ECHO_REQUEST, among(addresses, DESTINATION)), ...ofType(ICMP_ECHO_REPLY, among(servers, SOURCE)), drop()];
}

/** What is of another type goes on behind it. */
function ofType(type: number, body: readonly Instruction[]): Instruction[] {
  return [[IF_EQUAL, 1, 0, type], op(JUMP, body.length), ...body];
}

/** Accepts where the address at `place` of the header is one of these, drops all else. */
function among(addresses: readonly number[], place: number): Instruction[] {
  return [op(LOAD_WORD, NETWORK + place), ...oneOf(addresses)];
}

/** Accepts where A is one of `addresses`, drops all else. */
export function oneOf(addresses: readonly number[]): Instruction[] {
  return [...addresses.flatMap((address): Instruction[] => [[IF_EQUAL, 0, 1, address], accept()]), drop()];
}

/** Judges what is to none of our addresses: accepts answers of servers to clients, and errors about what such servers were sent. */
function toOthers({ returning = [], echo = NOBODY }: FilterSpec): Instruction[] {
  const pinged = echo.returning ?? [];
  if (returning.length === 0 && pinged.length === 0) return [drop()];
  const protocols = [...new Set(returning.map(({ protocol }) => protocol))];
  const servers = [...new Set([...returning.map(({ address }) => address), ...pinged])];
  const icmp = [
    ...headerLength(),
    op(TO_X),
    op(LOAD_BYTE_X, NETWORK), // the ICMP type
    ...ofType(ICMP_ECHO_REPLY, among(pinged, SOURCE)),
    ...skipIf(ICMP_ERRORS),
    drop(),
    op(LOAD_WORD_X, NETWORK + ICMP_HEADER + DESTINATION),
    ...oneOf(servers),
  ];
  return [
    op(LOAD_BYTE, NETWORK + PROTOCOL),
    [IF_EQUAL, 0, 1, ICMP],
    op(JUMP, 1),
    op(JUMP, icmp.length),
    ...icmp,
    // Whose a fragment is nobody can tell. The kernel forwards it.
    op(LOAD_HALF, NETWORK + FRAGMENT),
    [IF_BITS, 0, 1, FRAGMENT_BITS],
    drop(),
    ...loadPorts(),
    ...protocols.flatMap((protocol) =>
      judged(
        protocol,
        byAddress(
          returning.filter((one) => one.protocol === protocol),
          M_SOURCE,
          SOURCE_PORT,
        ),
      ),
    ),
    drop(),
  ];
}

/**
 * Accepts a fragment that the kernel did not put together: the pipeline counts and drops it. The first has ports, and shall not pass for
 * whole.
 */
function fragments(): Instruction[] {
  return [op(LOAD_HALF, NETWORK + FRAGMENT), [IF_BITS, 0, 1, FRAGMENT_BITS], accept()];
}

/** By protocol: what is of this one is judged here. */
function endpointsOf(protocol: number, { frontends, servers, ...ports }: FilterSpec): Instruction[] {
  const isOf = (one: Listener) => one.protocol === protocol;
  return judged(protocol, [...endpoints({ ...ports, frontends: frontends.filter(isOf), servers: servers.filter(isOf) }), drop()]);
}

/** What is of `protocol` by `body`; all else goes on behind it. */
function judged(protocol: number, body: readonly Instruction[]): Instruction[] {
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

const SOURCE_PORT = [op(LOAD_MEMORY, M_PORTS), op(SHIFT_RIGHT, 16)];

/** Accepts what comes from a server to a port of the pools. */
function replies({ servers, firstPort, lastPort }: FilterSpec): Instruction[] {
  return [
    op(LOAD_MEMORY, M_PORTS),
    op(AND, 0xffff),
    [IF_GREATER_EQUAL, 1, 0, firstPort],
    drop(),
    [IF_GREATER, 0, 1, lastPort],
    drop(),
    ...byAddress(servers, M_SOURCE, SOURCE_PORT),
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

export function accept(): Instruction {
  return op(RETURN, ACCEPT);
}

export function drop(): Instruction {
  return op(RETURN, 0);
}
