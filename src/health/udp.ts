import { createSocket, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import type { Check, CheckResult, Target, UdpSettings } from './check.ts';
import { excerpt } from './excerpt.ts';
import { Neighbours } from './neighbour.ts';
import type { PortRotation } from './ports.ts';
import { checkFromOurs, healthPorts, named, type Place, whenLate } from './tries.ts';

/** Of this process: one reading for the checks of all servers that end together. */
const neighbours = new Neighbours();
/** A datagram may be lost: so often it is sent in a check, at equal distances. */
const SENDINGS = 3;
/**
 * To a datagram anybody can forge "port unreachable": the kernel asks for no more than addresses and ports, of which there are a thousand. So one is
 * asked for again, beside sockets that send nothing: whoever forges errors for all ports is heard there first, sixteen times of seventeen.
 */
const DECOYS = 16;
const ROUNDS = 2;
/** What ICMP errors become (icmp_err_convert in net/ipv4/icmp.c). */
const REFUSALS = new Set(['ECONNREFUSED', 'ENOPROTOOPT', 'EPROTO', 'EHOSTUNREACH', 'ENETUNREACH', 'EHOSTDOWN', 'ENONET', 'EOPNOTSUPP']);

/**
 * Sends a datagram. Where an answer is expected, only one that has it passes. Else silence does, for there is no telling it from a
 * service that has nothing to say: the server fails by "port unreachable", or by not answering ARP where it is on a link of this
 * host's, since no error of the kernel's tells that of a datagram (udp(7)).
 */
export function udpCheck(target: Target, settings: UdpSettings, ports: PortRotation = healthPorts): Check {
  return {
    run: (signal) => checkFromOurs(target, (from, deadline) => attempt({ target, settings, ports, signal, deadline }, from), signal, ports),
  };
}

interface Task {
  readonly target: Target;
  readonly settings: UdpSettings;
  readonly ports: PortRotation;
  readonly signal: AbortSignal;
  readonly deadline: number;
}

/** `refused`: by an ICMP error, or what looks like one; `forged`: by one about nothing that was sent. */
type End = CheckResult | NodeJS.ErrnoException | 'refused' | 'forged';

async function attempt(task: Task, from: Place): Promise<CheckResult | NodeJS.ErrnoException> {
  const { target, settings } = task;
  let end = await exchange(task, from, 0);
  let refusals = 0;
  while (end === 'refused' && refusals++ < ROUNDS) end = await exchange(task, from, DECOYS);
  if (end === 'refused') return { outcome: 'fail', reason: 'port unreachable', refusals };
  if (end === 'forged')
    return { outcome: 'unknown', reason: 'somebody forges "port unreachable": an ICMP error came about a datagram that was never sent' };
  if (!(end instanceof Error) || end.code !== 'ETIMEDOUT' || settings.expect !== undefined) return end;
  if (!(await neighbours.answersArp(target.address))) return { outcome: 'fail', reason: 'no answer, nor to ARP', isGone: true };
  if (refusals > 0) return { outcome: 'unknown', reason: 'silent, but port unreachable a moment before', isSilent: true, refusals };
  return { outcome: 'pass', reason: `silent, but no port unreachable in ${target.timeoutMs} ms`, isSilent: true };
}

/** Resolves when all its sockets are gone: with an answer, or with the error ETIMEDOUT where nothing came. */
function exchange(task: Task, from: Place, decoys: number): Promise<End> {
  return new Promise((resolve) => void new Exchange(task, resolve).begin(from, decoys));
}

/** One socket asks; others beside it do not. */
class Exchange {
  readonly #task: Task;
  readonly #resolve: (end: End) => void;
  readonly #started = performance.now();
  readonly #sockets: Socket[] = [];
  readonly #timers: NodeJS.Timeout[] = [];
  /** What it ends with when time is out. */
  #late: End = named('ETIMEDOUT');
  #isOver = false;
  readonly #abort = () => this.#end(named('ECANCELED'));

  constructor(task: Task, resolve: (end: End) => void) {
    this.#task = task;
    this.#resolve = resolve;
    task.signal.addEventListener('abort', this.#abort, { once: true });
    this.#timers.push(whenLate(() => this.#end(this.#late), this.#leftMs));
    if (task.signal.aborted) this.#abort();
  }

  get #leftMs(): number {
    return Math.max(0, this.#task.deadline - this.#started);
  }

  /** Half of the decoys have ports below the one that asks: forgers may go up or down. */
  async begin(from: Place, decoys: number): Promise<void> {
    const places = Array.from({ length: decoys === 0 ? 0 : decoys + 1 }, () => this.#placeLike(from));
    const [own = from] = places.splice(decoys / 2, 1);
    await Promise.all(places.map((place) => this.#open(place, () => this.#end('forged')).catch(() => {})));
    try {
      const socket = await this.#open(own, (error) => this.#end(REFUSALS.has(error.code ?? '') ? 'refused' : error));
      if (!this.#isOver) this.#ask(socket);
    } catch (error) {
      this.#end(error as NodeJS.ErrnoException);
    }
  }

  #placeLike({ localAddress }: Place): Place {
    return localAddress === undefined ? {} : { localAddress, localPort: this.#task.ports.next() };
  }

  #ask(socket: Socket): void {
    const { send, expect } = this.#task.settings;
    socket.on('message', (answer) => {
      if (expect === undefined || answer.includes(expect)) this.#end(passed(this.#started));
      else this.#late = { outcome: 'fail', reason: `another answer: ${excerpt(answer.toString('latin1'))}` };
    });
    const again = () => socket.send(send, (error) => error && socket.emit('error', error));
    again();
    for (let i = 1; i < SENDINGS; i++) this.#timers.push(setTimeout(again, (this.#leftMs * i) / SENDINGS));
  }

  /** A socket that hears of nobody but the target. Rejects where it cannot be had. @param failed what it is told later */
  #open({ localAddress, localPort = 0 }: Place, failed: (error: NodeJS.ErrnoException) => void): Promise<Socket> {
    const { address, port } = this.#task.target;
    return new Promise((resolve, reject) => {
      const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
      this.#sockets.push(socket);
      socket.once('error', reject);
      socket.bind(localPort, localAddress, () => {
        if (this.#isOver) return;
        socket.connect(port, address, (error?: Error) => {
          socket.removeListener('error', reject).on('error', failed);
          if (error === undefined) resolve(socket);
          else reject(error);
        });
      });
    });
  }

  #end(end: End): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#task.signal.removeEventListener('abort', this.#abort);
    void Promise.all(this.#sockets.map(close)).then(() => this.#resolve(end));
  }
}

function passed(started: number): CheckResult {
  return { outcome: 'pass', reason: `answered in ${(performance.now() - started).toFixed(1)} ms` };
}

/** Once, and nothing that comes later is heard. */
function close(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.removeAllListeners().on('error', () => {});
    try {
      socket.close(resolve);
    } catch {
      resolve(); // it is closed already, or was never open
    }
  });
}
