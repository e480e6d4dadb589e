/** A terminal that nobody sits at: tmux runs a script in it, types, changes its size, and tells what it shows. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab, Namespace } from './lab.ts';
import { waitUntil } from './wait.ts';

export class Tmux {
  readonly #host: Namespace;
  readonly #socket: string;

  private constructor(host: Namespace, socket: string) {
    this.#host = host;
    this.#socket = socket;
  }

  /** Runs a shell's script on a terminal of that size; the terminal stays when it has ended. To be closed. */
  static async start(lab: Lab, host: Namespace, script: string, { width = 140, height = 24 } = {}): Promise<Tmux> {
    const [file, settings] = [join(lab.directory, 'on-tmux.sh'), join(lab.directory, 'tmux.conf')];
    // One whose program has ended has no cursor.
    writeFileSync(file, `${script}\ncat\n`);
    writeFileSync(settings, 'set -g remain-on-exit on\nset -g status off\nset -s escape-time 0\nset -g default-terminal screen-256color\n');
    const tmux = new Tmux(host, join(lab.directory, 'tmux.sock'));
    const size = ['-x', String(width), '-y', String(height)];
    await tmux.#tell('-f', settings, 'new-session', '-d', '-s', 'one', ...size, 'env', '-u', 'TMUX', 'bash', file);
    return tmux;
  }

  /** As tmux's send-keys has them: 'Right', 'Enter', or text. */
  async type(...keys: string[]): Promise<void> {
    await this.#tell('send-keys', '-t', 'one', ...keys);
  }

  async resize(width: number, height: number): Promise<void> {
    await this.#tell('resize-window', '-t', 'one', '-x', String(width), '-y', String(height));
  }

  /** What it shows now, line by line. */
  async lines(): Promise<string[]> {
    return (await this.#tell('capture-pane', '-p', '-t', 'one')).replace(/\n$/, '').split('\n');
  }

  /** Of tmux's formats. */
  async tells(format: string): Promise<string> {
    return (await this.#tell('display-message', '-p', '-t', 'one', format)).trim();
  }

  /** Waits until what it shows is what `is` wants, and returns that. */
  shows(is: RegExp | ((lines: readonly string[]) => boolean), what = String(is)): Promise<string[]> {
    let last: string[] = [];
    const probe = async () => {
      last = await this.lines();
      const shown = typeof is === 'function' ? is(last) : is.test(last.join('\n'));
      return shown && last;
    };
    return waitUntil(probe, { what, every: 100 }).catch((error: Error) => {
      throw new Error(`${error.message}; the terminal shows:\n${last.join('\n')}`, { cause: error });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tell('kill-server');
  }

  async #tell(...words: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.#host.run('env', 'LC_ALL=C.UTF-8', 'tmux', '-u', '-S', this.#socket, ...words);
    if (code !== 0) throw new Error(`tmux ${words.join(' ')}: ${stderr}`);
    return stdout;
  }
}
