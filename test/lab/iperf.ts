/** iperf3 as a server behind lb4. */
import type { Namespace } from './lab.ts';
import type { Running, RunResult } from './processes.ts';

export class Iperf {
  static readonly port = 5201;
  readonly #server: Running;
  #runs = 0;

  private constructor(server: Running) {
    this.#server = server;
  }

  static async start(server: Namespace): Promise<Iperf> {
    const iperf = new Iperf(server.start(['iperf3', '-s', '-p', `${Iperf.port}`, '--forceflush']));
    await iperf.#listens();
    return iperf;
  }

  /** A client's run through `vip`, its report in JSON. No health check may come near the port: to iperf3 it would be a run. */
  async run(client: Namespace, vip: string, ...options: readonly string[]): Promise<RunResult> {
    await this.#listens();
    this.#runs++;
    return client.run('iperf3', '-J', '-c', vip, '-p', `${Iperf.port}`, ...options);
  }

  /** After each run its listener is gone for a moment, and who comes then is reset. */
  async #listens(): Promise<void> {
    await this.#server.line(new RegExp(`^Server listening .*#${this.#runs + 1}\\)`));
  }
}
