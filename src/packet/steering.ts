/**
 * Which of several packet workers a frame belongs to. All packets of a connection, in both directions, and the ICMP errors about
 * them, belong to one worker; so workers share nothing on the packet path. The kernel hands frames out by the same rule
 * (io/steering.ts).
 *
 *      to a port of the pools      the worker that claimed it: each claims of a slice of its own
 *      to any other port           by a keyed hash of source address and port
 *
 * Where servers answer clients through lb4 (nat = "destination") what goes to an address that is not {@link Ours} is such an answer, and is
 * its client's: by the hash of destination address and port, whichever port that is, since clients have ports of the pools, too. Where servers
 * see a client under another address, it gets a port there whose answers come to its worker (forward/clash.ts): so nobody who steers need know of it.
 *
 * A frontend that itself listens on a port of the pools needs no exception: all its clients go to the worker that has this port, and its
 * servers' replies come to ports that this worker claimed. That is right, but not spread.
 */
import type { HashKey } from '../layout/memory.ts';
import { CLIENT_PORTS } from '../layout/ports.ts';
import { destinationPort, sourcePort, swap32, swapPorts } from './address.ts';
import {
  FRAGMENT_MASK,
  ICMP,
  ICMP_HEADER,
  IP_DESTINATION,
  IP_FRAGMENT,
  IP_SOURCE,
  IP_TTL,
  isIcmpError,
  TCP,
  TCP_PORTS,
  UDP,
} from './fields.ts';

/**
 * What {@link scramble} does: x ^= x >>> shift, then x *= factor, in turn. Constants of lowbias32 (nullprogram.com, "Prospecting for
 * hash functions"): every bit of the input turns each bit of the result with a chance of one half, the low ones too, which a modulus
 * goes by.
 */
export const SHIFTS = [16, 15, 16] as const;
export const FACTORS = [0x7feb352d, 0x846ca68b] as const;

const [SHIFT_1, SHIFT_2, SHIFT_3] = SHIFTS;
const [FACTOR_1, FACTOR_2] = FACTORS;

/** Who claims a port: `count` ports from `first` on, `step` apart, in host order. */
export interface PortSlice {
  readonly first: number;
  readonly count: number;
  readonly step: number;
}

/** The ports of CLIENT_PORTS whose packets come to `worker` (0 … workers - 1). The slices of all workers are the whole range. */
export function portSlice(worker: number, workers: number): PortSlice {
  const { first, last } = CLIENT_PORTS;
  return { first: first + worker, count: Math.floor((last - first - worker) / workers) + 1, step: workers };
}

/** Whose slice it is, of how many. */
export function workerOfSlice({ first, step }: PortSlice): { worker: number; workers: number } {
  return { worker: first - CLIENT_PORTS.first, workers: step };
}

/** All of them. */
export const ALL_PORTS = portSlice(0, 1);

/** The addresses that tell packets to this host from answers to clients, as an Int32Array reads them. */
export type Ours = ReadonlySet<number>;

/** The uint32 that workers are chosen by: as secret as the flow table's key, so that strangers cannot aim at one worker, and as long-lived. */
export function steeringKey(hashKey: HashKey): number {
  let key = 0;
  for (const word of hashKey) key = scramble(key ^ word);
  return key >>> 0;
}

/**
 * The worker (0 … workers - 1) of a packet.
 * @param source its source address as an Int32Array reads it
 * @param ports its ports word: portsWord()
 * @param key {@link steeringKey}
 * @param ours left out: all that comes up is to this host
 */
export function workerOf(source: number, destination: number, ports: number, key: number, workers: number, ours?: Ours): number {
  const port = destinationPort(ports);
  if (ours !== undefined && !ours.has(destination)) return byHash(destination, port, key, workers);
  if (port >= CLIENT_PORTS.first && port <= CLIENT_PORTS.last) return (port - CLIENT_PORTS.first) % workers;
  return byHash(source, sourcePort(ports), key, workers);
}

/** The worker of what a client, as servers see it, is sent by them to a port (host order), and of what it sends itself where it is its own address. */
export function workerOfClient(client: number, port: number, key: number, workers: number): number {
  return byHash(client, port, key, workers);
}

function byHash(address: number, port: number, key: number, workers: number): number {
  return (scramble((scramble(swap32(address) ^ key) + port) | 0) >>> 0) % workers;
}

/**
 * The worker of the IPv4 packet whose header is at word `ip`, of which `length` bytes are there (padding of the link counts, as it does
 * to the kernel). An ICMP error belongs to the connection whose packet it quotes, and comes from where that went: so it is steered by the
 * quoted packet, turned round. Whatever has no ports is the first worker's: fragments, other protocols (pings, and errors that quote one), and
 * what ends too early.
 */
export function workerOfFrame(words: Int32Array, ip: number, length: number, key: number, workers: number, ours?: Ours): number {
  if (length < 16 || (words[ip + IP_FRAGMENT] & FRAGMENT_MASK) !== 0) return 0;
  const header = words[ip] & 0xf;
  const transport = ip + header;
  const rest = length - header * 4;
  const protocol = (words[ip + IP_TTL] >>> 8) & 0xff;
  if (protocol === ICMP) return workerOfError(words, transport, rest, key, workers, ours);
  if ((protocol !== TCP && protocol !== UDP) || rest < 4) return 0;
  // Only where it is asked for is it read: a packet that ends before it has none.
  if (ours !== undefined && length < 20) return 0;
  return workerOf(words[ip + IP_SOURCE], words[ip + IP_DESTINATION], words[transport + TCP_PORTS], key, workers, ours);
}

/** The same of an ICMP message of `length` bytes. What it quotes may be a fragment or of any protocol with ports: where that matters, nobody has a flow. */
function workerOfError(words: Int32Array, icmp: number, length: number, key: number, workers: number, ours: Ours | undefined): number {
  if (length < 1 || !isIcmpError(words[icmp] & 0xff)) return 0;
  const quoted = icmp + ICMP_HEADER / 4;
  const rest = length - ICMP_HEADER;
  const header = words[quoted] & 0xf;
  if (rest < 20 || rest < header * 4 + 4 || ((words[quoted + IP_TTL] >>> 8) & 0xff) === ICMP) return 0;
  const source = words[quoted + IP_DESTINATION];
  return workerOf(source, words[quoted + IP_SOURCE], swapPorts(words[quoted + header + TCP_PORTS]), key, workers, ours);
}

/** A permutation of the 32-bit numbers. */
function scramble(x: number): number {
  x = Math.imul(x ^ (x >>> SHIFT_1), FACTOR_1);
  x = Math.imul(x ^ (x >>> SHIFT_2), FACTOR_2);
  return x ^ (x >>> SHIFT_3);
}
