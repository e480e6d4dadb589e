/** A client and a server that have no kernel, and lb4 in passthrough between them: every packet is written and read by the test. */
import { renameSync, writeFileSync } from 'node:fs';
import { Balancer, configuration, LB4, QUICK, STATS_PORT, writeConfiguration } from './balancer.ts';
import { Topology, VIP } from './topology.ts';
import { waitUntil } from './wait.ts';
import { ACK, type Packet, type Parsed, RawHost, SYN } from './wire.ts';

const PORT = 8080;
const SERVER = '10.72.0.50';

export interface Opened {
  /** The client's port, and the port that lb4 chose. */
  readonly port: number;
  readonly natPort: number;
  /** SYNs that were sent for it. */
  readonly syns: number;
}

export class RawPair {
  readonly lab: Topology;
  readonly client: RawHost;
  readonly server: RawHost;
  readonly balancer: Balancer;
  readonly #file: string;
  #nextPort = 5_000;

  private constructor(lab: Topology, client: RawHost, server: RawHost, balancer: Balancer, file: string) {
    this.lab = lab;
    this.client = client;
    this.server = server;
    this.balancer = balancer;
    this.#file = file;
  }

  /** `more`: whole sections of the file. */
  static async start(more = ''): Promise<RawPair> {
    const lab = new Topology({ servers: 1 });
    try {
      lab.setOffloads('off');
      const { balancer, servers } = lab;
      const client = await RawHost.attach(lab.client, 'eth0', '10.71.0.200', { namespace: balancer, device: 'front' });
      const server = await RawHost.attach(servers[0] ?? lab.client, 'eth0', SERVER, { namespace: balancer, device: 'back' });
      server.answerHealthChecks();
      const file = writeConfiguration(balancer, text(more));
      const running = balancer.start([LB4, '--passthrough', `--config=${file}`]);
      await running.line(/"msg":"server up"/);
      const lb4 = new Balancer(balancer, running, `http://127.0.0.1:${STATS_PORT}/stats`);
      return new RawPair(lab, client, server, lb4, file);
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Has lb4 take over the file with other sections at its end. */
  async reload(more: string): Promise<void> {
    const done = this.balancer.running.nextLine(/"msg":"configuration reloaded"/);
    writeFileSync(`${this.#file}.new`, text(more));
    renameSync(`${this.#file}.new`, this.#file);
    await done;
  }

  /** Keeps the kernel from reordering on any cable: what is out of order then, lb4 has put out of order. */
  keepOrder(): void {
    const { balancer, client, servers } = this.lab;
    for (const device of ['front', 'back']) balancer.keepOrder(device);
    for (const host of [client, ...servers]) host.keepOrder('eth0');
  }

  /** A client port that no connection has had yet. */
  nextPort(): number {
    return this.#nextPort++;
  }

  /** Sends from the client's `port` to the frontend. */
  fromClient(port: number, packet: Partial<Packet>): void {
    const sequences = { sequence: 1001, acknowledgment: 7001 };
    this.client.send({ destination: VIP, sourcePort: port, destinationPort: PORT, ...sequences, ...packet });
  }

  /** Sends from the server to the port that lb4 chose. */
  fromServer(natPort: number, packet: Partial<Packet>): void {
    const sequences = { sequence: 7001, acknowledgment: 1001 };
    this.server.send({ destination: VIP, sourcePort: PORT, destinationPort: natPort, ...sequences, ...packet });
  }

  /** The next packet of a client that reaches the server and matches. */
  atServer(what: string, matches: (packet: Parsed) => boolean): Promise<Parsed> {
    return this.server.expect(what, (packet) => isForwarded(packet) && matches(packet));
  }

  /** The next packet that reaches the client at `port` and matches. */
  atClient(what: string, port: number, matches: (packet: Parsed) => boolean = () => true): Promise<Parsed> {
    return this.client.expect(what, (packet) => packet.destinationPort === port && matches(packet));
  }

  /** Takes all the packets of clients that have reached the server. */
  takeForwarded(): Parsed[] {
    const forwarded = this.server.received.filter(isForwarded);
    this.server.received.length = 0;
    return forwarded;
  }

  /** SYN, SYN+ACK, ACK; `synFlags` and `answerFlags` are set beside those. */
  async open({ synFlags = 0, answerFlags = 0 }: { synFlags?: number; answerFlags?: number } = {}): Promise<Opened> {
    const port = this.nextPort();
    let syns = 0;
    const ask = () => {
      syns++;
      this.fromClient(port, { flags: SYN | synFlags, id: port, sequence: 1000, acknowledgment: 0 });
    };
    ask();
    // As any client does: on a busy machine a single frame may be lost.
    const again = setInterval(ask, 1000);
    const { sourcePort: natPort } = await this.atServer('the SYN', ({ flags, id }) => flags === (SYN | synFlags) && id === port).finally(
      () => clearInterval(again),
    );
    this.fromServer(natPort, { flags: SYN | ACK | answerFlags, sequence: 7000 });
    await this.atClient('the SYN+ACK', port);
    this.fromClient(port, { flags: ACK });
    await this.atServer('the ACK', ({ flags, sourcePort }) => flags === ACK && sourcePort === natPort);
    return { port, natPort, syns };
  }

  /** Whether the connection carries data both ways, by the port that it has had from the start. */
  async carriesData({ port, natPort }: Omit<Opened, 'syns'>): Promise<boolean> {
    this.fromClient(port, { flags: ACK, payload: Buffer.from('to the server') });
    const up = await this.atServer('data', ({ payload }) => payload.toString() === 'to the server');
    this.fromServer(natPort, { flags: ACK, payload: Buffer.from('to the client') });
    await this.atClient('data', port, ({ payload }) => payload.toString() === 'to the client');
    return up.sourcePort === natPort;
  }

  /** Waits until a verdict has been given `times` times at least. */
  async verdict(name: string, times: number): Promise<number> {
    const enough = async () => {
      const count = await this.balancer.verdict(name);
      return count >= times ? count : undefined;
    };
    return waitUntil(enough, { what: `${times} times the verdict ${name}`, every: 50 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab[Symbol.asyncDispose]();
  }
}

/** Not a health check: those have ports of their own. */
function isForwarded({ destinationPort, sourcePort }: Parsed): boolean {
  return destinationPort === PORT && sourcePort > 33_767;
}

function text(more: string): string {
  return configuration({ frontends: { raw: { listen: `${VIP}:${PORT}`, servers: [`${SERVER}:${PORT}`], backend: QUICK } }, more });
}
