/** The connection log as datagrams, one a line: to the journal, to this host's syslog, or to another's by UDP. What is not taken at once is lost. */
import { createSocket, type Socket } from 'node:dgram';
import { messageOf } from '../errors.ts';
import { native } from '../io/native.ts';
import type { Destination } from './destination.ts';

/** To a unix socket, by its path. */
export class UnixDatagrams implements Destination {
  readonly name: string;
  #lost = 0;
  #trouble: string | undefined;

  constructor(path: string) {
    this.name = path;
  }

  write(line: string): void {
    try {
      native().sendDatagram(this.name, line, []);
      this.#trouble = undefined;
    } catch (error) {
      this.#lost++;
      this.#trouble = messageOf(error);
    }
  }

  get lost(): number {
    return this.#lost;
  }

  get trouble(): string | undefined {
    return this.#trouble;
  }

  close(): void {
    // It holds nothing.
  }
}

/** Bytes that Node may hold back where the kernel takes none. */
const MOST_WAITING = 2 ** 20;

/** To an address, by UDP. */
export class UdpDatagrams implements Destination {
  readonly name: string;
  readonly #address: { readonly ip: string; readonly port: number };
  readonly #socket: Socket;
  #lost = 0;
  #trouble: string | undefined;

  constructor(address: { readonly ip: string; readonly port: number; readonly text: string }) {
    this.name = `udp ${address.text}`;
    this.#address = address;
    this.#socket = createSocket(address.ip.includes(':') ? 'udp6' : 'udp4');
    this.#socket.on('error', (error) => (this.#trouble = messageOf(error)));
    // A socket alone keeps no process alive.
    this.#socket.unref();
  }

  write(line: string): void {
    if (this.#socket.getSendQueueSize() > MOST_WAITING) {
      this.#lost++;
      this.#trouble = 'this host sends more slowly than lines come';
      return;
    }
    const { ip, port } = this.#address;
    this.#socket.send(line, port, ip, (error) => {
      if (error !== null) this.#lost++;
      this.#trouble = error === null ? undefined : messageOf(error);
    });
  }

  get lost(): number {
    return this.#lost;
  }

  get trouble(): string | undefined {
    return this.#trouble;
  }

  close(): void {
    this.#socket.close();
  }
}
