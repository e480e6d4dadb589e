/** Questions to an HTTP server in a namespace, asked again and again: a curl for each would take more of the processors than lb4 does. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Namespace, ROOT } from './lab.ts';
import { PYTHON, type Running } from './processes.ts';

const askers = new WeakMap<Namespace, Asker>();

/** GET `url` (http://HOST:PORT/PATH) from inside the namespace. Returns the body; throws where there is none, or the status is not 200. */
export function ask(namespace: Namespace, url: string): Promise<string> {
  // The demo's machine, and an emulated one, may have none.
  if (!existsSync(PYTHON)) return askOnce(namespace, url);
  const asker = askers.get(namespace) ?? new Asker(namespace);
  askers.set(namespace, asker);
  return asker.ask(url);
}

async function askOnce(namespace: Namespace, url: string): Promise<string> {
  const { code, stdout, stderr } = await namespace.run('curl', '-sSf', '--max-time', '60', url);
  if (code !== 0) throw new Error(`${url}: ${stderr.trim()}`);
  return stdout;
}

class Asker {
  readonly #running: Running;
  /** Whoever waits for an answer, in turn. */
  readonly #waiting: ((line: string) => void)[] = [];

  constructor(namespace: Namespace) {
    this.#running = namespace.assistant([PYTHON, '-IS', join(ROOT, 'test/lab/ask.py')]);
    this.#running.onLine((line) => this.#waiting.shift()?.(line));
    void this.#running.exited.then(() => {
      for (const tell of this.#waiting.splice(0)) tell('failed: the lab is over');
    });
  }

  async ask(url: string): Promise<string> {
    const { hostname, port, pathname } = new URL(url);
    const line = await new Promise<string>((resolve) => {
      if (this.#running.exit !== undefined) resolve('failed: the lab is over');
      this.#waiting.push(resolve);
      this.#running.write(`${hostname} ${port} ${pathname}`);
    });
    const [, body] = /^200 ([0-9a-f]*)$/.exec(line) ?? [];
    if (body === undefined) throw new Error(`${url}: ${line.slice(0, 200)}`);
    return Buffer.from(body, 'hex').toString();
  }
}
