/** Has the kernel ask for the MAC address of a host on a link of this host's. */
import { createSocket, type Socket } from 'node:dgram';

/** Whoever listens there throws away what comes (RFC 863). */
const DISCARD = 9;

export class Solicitor {
  #socket: Socket | undefined;

  /** Sends IPv4 addresses an empty datagram each, for which the kernel asks ARP first. What fails will be tried again by whoever still misses them. */
  ask(addresses: Iterable<string>): void {
    for (const address of addresses) this.#open().send('', DISCARD, address, () => {});
  }

  close(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }

  #open(): Socket {
    if (this.#socket !== undefined) return this.#socket;
    const socket = createSocket('udp4').unref();
    // Without a descriptor for it, say: another one is tried the next time.
    socket.on('error', () => this.close());
    this.#socket = socket;
    return socket;
  }
}
