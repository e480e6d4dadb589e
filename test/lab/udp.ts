/** UDP clients and servers inside namespaces (udp.py). */
import { join } from 'node:path';
import { type Namespace, ROOT } from './lab.ts';
import { PYTHON, type Running } from './processes.ts';
import { PATIENCE } from './wait.ts';

const PROGRAM = [PYTHON, '-IS', join(ROOT, 'test/lab/udp.py')];

/** Starts a server and waits until it listens. */
export async function serveUdp(namespace: Namespace, name: string, port: number): Promise<Running> {
  const running = namespace.start([...PROGRAM, 'serve', name, `${port}`]);
  await running.line(/^listening$/);
  return running;
}

/** Clients of one namespace, each with a socket of its own that is kept; one asks at a time. */
export class UdpClients {
  readonly #running: Running;

  constructor(namespace: Namespace) {
    this.#running = namespace.start([...PROGRAM, 'talk']);
  }

  /**
   * Has client `number` send a text, again each second until `least` different datagrams have come back in answer, and returns those, sorted: fewer
   * where they did not come in a minute. 0: the text is sent once.
   */
  async ask(number: number, address: string, text: string, least = 1): Promise<string[]> {
    const [host = '', port] = address.split(':');
    const answer = this.#running.nextLine(/^\[/, 3 * PATIENCE);
    this.#running.write(JSON.stringify([number, host, Number(port), text, least]));
    return JSON.parse(await answer) as string[];
  }
}
