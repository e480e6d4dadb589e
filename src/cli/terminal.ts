/**
 * A terminal that is a command's for a while: its other screen, and keys one by one. It is given back as it was on every way out: the end of the
 * process, its errors, and signals, stops (Ctrl-Z) included. Sequences: ECMA-48, and xterm's private modes (xterm-control-sequences).
 */
import { writeSync } from 'node:fs';
import { emitKeypressEvents } from 'node:readline';
import type { Key } from './top-keys.ts';

/** The other screen, no cursor, lines that are cut and not wrapped. */
const ENTER = '\u001b[?1049h\u001b[?25l\u001b[?7l';
const LEAVE = '\u001b[?7h\u001b[?25h\u001b[?1049l';
const HOME = '\u001b[H';
const TO_LINE_END = '\u001b[K';
const TO_SCREEN_END = '\u001b[J';
const ENDS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;
/** One that tells no size: 0. */
const SIZE = { width: 80, height: 24 };

export interface TerminalEvents {
  readonly key: (key: Key) => void;
  /** Its size is another one, or it is back after a stop. */
  readonly changed: () => void;
  /** Nobody is at the keyboard, or the screen, any more. */
  readonly gone: () => void;
}

/** @throws the system's error where keys cannot be had one by one */
export class Terminal {
  readonly #events: TerminalEvents;
  readonly #undo: (() => void)[] = [];
  #isOurs = false;

  constructor(events: TerminalEvents) {
    this.#events = events;
    this.#on(process, 'exit', () => this.#leave());
    for (const signal of ENDS) this.#on(process, signal, () => this.#endBy(signal));
    this.#on(process, 'SIGTSTP', () => this.#stop());
    this.#on(process, 'SIGCONT', () => this.#continue());
    this.#on(process.stdout, 'resize', () => this.#events.changed());
    this.#on(process.stdout, 'error', () => this.#events.gone());
    if (process.stdin.isTTY) this.#listen();
    this.#enter();
  }

  get size(): { width: number; height: number } {
    const { columns, rows } = process.stdout;
    return { width: columns || SIZE.width, height: rows || SIZE.height };
  }

  /** Lines from the top; what was there is gone. */
  draw(lines: readonly string[]): void {
    if (!this.#isOurs) return;
    process.stdout.write(`${HOME}${lines.map((line) => line + TO_LINE_END).join('\r\n')}${TO_SCREEN_END}`);
  }

  /** Gives it back. Again does nothing. */
  close(): void {
    this.#leave();
    for (const undo of this.#undo.splice(0)) undo();
  }

  #listen(): void {
    const { stdin } = process;
    emitKeypressEvents(stdin);
    this.#on(stdin, 'keypress', (text, key) => this.#press({ ...(key as Omit<Key, 'text'>), text: text as string | undefined }));
    this.#on(stdin, 'end', () => this.#events.gone());
    this.#on(stdin, 'error', () => this.#events.gone());
    stdin.resume();
    this.#undo.push(() => stdin.pause());
  }

  #press(key: Key): void {
    if (key.ctrl === true && key.name === 'z') this.#stop();
    else this.#events.key(key);
  }

  #on(emitter: NodeJS.EventEmitter, event: string, listener: (...args: unknown[]) => void): void {
    emitter.on(event, listener);
    this.#undo.push(() => emitter.off(event, listener));
  }

  #enter(): void {
    if (process.stdin.isTTY) process.stdin.setRawMode(true);
    this.#isOurs = true;
    say(ENTER);
  }

  #leave(): void {
    if (!this.#isOurs) return;
    this.#isOurs = false;
    say(LEAVE);
    try {
      if (process.stdin.isTTY) process.stdin.setRawMode(false);
    } catch {
      // It has gone.
    }
  }

  /** By the signal itself: whoever started it is to know. */
  #endBy(signal: NodeJS.Signals): void {
    this.close();
    process.kill(process.pid, signal);
  }

  #stop(): void {
    this.#leave();
    process.kill(process.pid, 'SIGSTOP');
  }

  #continue(): void {
    // After a stop that asked nobody (SIGSTOP) it may be in any state.
    this.#leave();
    this.#enter();
    this.#events.changed();
  }
}

/** At once: the process may be about to end. */
function say(text: string): void {
  try {
    writeSync(process.stdout.fd, text);
  } catch {
    // It has gone.
  }
}
