/** systemd's end of NOTIFY_SOCKET (sd_notify(3)): what lb4 says of itself. */
import { closeSync } from 'node:fs';
import { native } from '../../src/io/native.ts';
import { waitUntil } from './wait.ts';

export class NotifySocket {
  readonly path: string;
  readonly #fd: number;

  /** @param path where it is made */
  constructor(path: string) {
    this.path = path;
    this.#fd = native().openDatagram(path);
  }

  /** The next that is said. */
  next(): Promise<string> {
    return waitUntil(() => this.#take(), { what: 'lb4 to tell systemd something' });
  }

  /** All that has been said and was not taken yet. */
  rest(): string[] {
    const all: string[] = [];
    for (let text = this.#take(); text !== undefined; text = this.#take()) all.push(text);
    return all;
  }

  #take(): string | undefined {
    try {
      return native().receiveDatagram(this.#fd).text;
    } catch {
      return undefined; // nothing yet
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
