/** tcpdump as a witness that shares no code with lb4. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { Namespace } from './lab.ts';
import { type Running, run } from './processes.ts';
import { waitUntil } from './wait.ts';

let captures = 0;
/** Bytes before the first packet (pcap-savefile(5)). */
const HEADER = 24;

export class Capture {
  readonly file: string;
  readonly #running: Running;

  private constructor(file: string, running: Running) {
    this.file = file;
    this.#running = running;
  }

  /** Captures on `device` from now on; `snap` bytes of each frame (whole frames when left out). */
  static async start(namespace: Namespace, device: string, filter = 'ip', snap = 0): Promise<Capture> {
    const file = join(namespace.lab.directory, `capture-${++captures}.pcap`);
    const options = ['-i', device, '-n', '-U', '--immediate-mode', '-Z', 'root', '-s', `${snap}`, '-B', '65536', '-w', file];
    const running = namespace.start(['tcpdump', ...options, ...filter.split(' ')]);
    await running.line(/listening on/);
    return new Capture(file, running);
  }

  /** Whether any packet is in it by now. */
  get hasAny(): boolean {
    return (statSync(this.file, { throwIfNoEntry: false })?.size ?? 0) > HEADER;
  }

  /** Ends the capture. Returns one line a packet, as `tcpdump -n FLAGS` tells it. */
  async stop(...flags: string[]): Promise<string[]> {
    if (this.#running.exit === undefined) {
      await this.#caughtUp();
      await this.#running.stop('SIGINT');
    }
    const { stdout } = await run(['tcpdump', '-n', '-tt', '-r', this.file, ...flags]);
    // With -v the transport header stands on a second, indented line; what it decodes of a payload is left out.
    const lines = stdout.replaceAll(/\n {4}/g, ' ').split('\n');
    return lines.filter((line) => /^\d+\.\d+ /.test(line));
  }

  /** What the kernel has captured, tcpdump writes a moment later; SIGINT would make it forget the rest. SIGUSR1 has it tell both counts (tcpdump(8)). */
  async #caughtUp(): Promise<void> {
    let last = '';
    let still = 0;
    const hasAll = async () => {
      const told = this.#running.nextLine(/captured, .*received/);
      this.#running.signal('SIGUSR1');
      const line = await told;
      const [captured = 0, received = 0] = [...line.matchAll(/(\d+) packets? /g)].map(([, count]) => Number(count));
      // The kernel counts, too, what came before the filter was set: that is never written. So it has all where nothing moves.
      still = line === last ? still + 1 : 0;
      last = line;
      return captured >= received || still >= 3;
    };
    await waitUntil(hasAll, { what: 'tcpdump to have written what the kernel has captured', every: 30 });
  }

  /** Ends the capture and judges every checksum in it (IP, TCP, UDP, ICMP and what that quotes). */
  async checksums(): Promise<{ packets: number; bad: string[] }> {
    const lines = await this.stop('-vv');
    return { packets: lines.length, bad: lines.filter((line) => /bad cksum|incorrect|wrong icmp cksum|bad udp cksum/.test(line)) };
  }

  /** Ends the capture and returns the IP total length of each packet. */
  async lengths(): Promise<number[]> {
    return (await this.stop('-v')).map((line) => Number(/, length (\d+)\)/.exec(line)?.[1]));
  }
}
