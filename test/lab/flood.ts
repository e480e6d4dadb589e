/** Attacks by bench/traffic.c: SYNs, and what may follow them, or datagrams, from addresses that nobody has. */
import { compile } from '../../bench/measure.ts';
import type { Namespace } from './lab.ts';
import type { Running } from './processes.ts';
import { type Topology, VIP } from './topology.ts';

/** Addresses for benchmarks (RFC 2544): what lb4 sends back to them ends at the client's namespace, without a word. */
const SOURCE = '198.18.0.1';

/** Connections that wait for an answer at a time: what a small ring has room for. */
const WINDOW = 64;

/**
 * `none`: a segment without a flag. `ack`: of what no server has sent. `rst`: with the sequence number that a server expects. `open`: what
 * ends a handshake with {@link startAnswers}. `fragment`: a first one alone. `ping`: an ICMP echo request.
 */
type Step = 'syn' | 'none' | 'ack' | 'rst' | 'open' | 'fragment' | 'ping';

export interface Flood {
  /** The frontend's port, and its protocol, TCP when left out: of UDP each step is the same datagram. */
  readonly port: number;
  readonly protocol?: 'tcp' | 'udp';
  /** New clients a second; as many as the machine can when left out. */
  readonly rate?: number;
  /** Seconds and clients at most. */
  readonly seconds: number;
  readonly count?: number;
  /** How many addresses the clients share. */
  readonly addresses?: number;
  /** What each client sends. */
  readonly steps?: readonly Step[];
}

/** Starts a flood of the VIP from the first client's wire, and waits until it has begun. It ends by itself. */
export async function startFlood(lab: Topology, flood: Flood): Promise<Running> {
  const { port, protocol = 'tcp', rate = 0, seconds, count = 10_000_000, addresses = 16, steps = ['syn'] } = flood;
  const to = ['eth0', lab.balancer.mac('front'), SOURCE, addresses, VIP, protocol === 'udp' ? `${port}/udp` : port].map(String);
  const running = lab.client.start([compile('traffic'), 'flood', ...to, `${rate}`, `${seconds}`, `${count}`, ...steps]);
  await running.line(/^flooding/);
  return running;
}

/**
 * Has the first `count` clients of a flood open a connection each to what {@link startAnswers} has started, a few at a time, and waits until a
 * server has answered all of them. One that is open hears from its server once more.
 */
export async function openConnections(lab: Topology, port: number, count: number, addresses = 16): Promise<void> {
  const to = ['eth0', lab.balancer.mac('front'), SOURCE, addresses, VIP, port, count, WINDOW].map(String);
  const running = lab.client.start([compile('traffic'), 'open', ...to]);
  const { code } = await running.exited;
  if (code !== 0) throw new Error(running.lines.join('\n'));
}

/** Has a server complete every handshake at a port, without any kernel's memory of it. */
export function startAnswers(server: Namespace, port: number): void {
  server.sh('nft', `table ip answers { chain in { type filter hook prerouting priority raw; tcp dport ${port} drop; }; }`);
  server.start([compile('traffic'), 'answer', 'eth0', `${port}`]);
}

/** Waits for a flood's end. Returns how many segments it has sent. */
export async function floodEnd(running: Running): Promise<number> {
  const [, sent] = /^sent (\d+) /.exec(await running.line(/^sent /)) ?? [];
  await running.exited;
  return Number(sent);
}
