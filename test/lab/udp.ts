/** UDP clients and servers inside namespaces (udp.py). */
import { join } from 'node:path';
import { type Namespace, ROOT } from './lab.ts';
import { PYTHON, type Running } from './processes.ts';
import { PATIENCE } from './wait.ts';

const PROGRAM = [PYTHON, '-IS', join(ROOT, 'test/lab/udp.py')];

/** Starts a server and waits until it listens. */
export async function serveUdp(namespace: Namespace, name: string, port: number, address = '0.0.0.0'): Promise<Running> {
  const running = namespace.start([...PROGRAM, 'serve', name, `${port}`, address]);
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

/** What {@link startDns} answers for long.test: sixteen strings, 4,000 bytes. */
export const LONG = Array.from({ length: 16 }, (_, i) => `${String(i).padStart(4, '0')}${'x'.repeat(240)}`);

/** A DNS server whose TXT record of who.test is its name. */
export async function startDns(server: Namespace, name: string, port = 53): Promise<Running> {
  const records = [`who.test,${name}`, `long.test,${LONG.join(',')}`].map((record) => `--txt-record=${record}`);
  const options = ['--no-daemon', '--conf-file=/dev/null', '--no-resolv', '--no-hosts', '--user=root', '--group=root', '--pid-file='];
  const running = server.start(['dnsmasq', ...options, `--port=${port}`, '--edns-packet-max=4096', ...records]);
  await running.line(/cleared cache/);
  return running;
}
