/** Where lines of the connection log go. Nobody waits for it, and none of its calls throws. */
export interface Destination {
  /** For messages. */
  readonly name: string;
  /** Hands over a line, without its end. */
  write(line: string): void;
  /** Lines that were lost so far. */
  readonly lost: number;
  /** Why the last one was lost; undefined: it was not. */
  readonly trouble: string | undefined;
  /** Called about once a second: whether it is still there. */
  look?(): void;
  /** Begins anew where something else is there by now: whoever has moved a file away has said so. */
  reopen?(): void;
  /** Writes what waits, for at most so long. */
  close(timeoutMs: number): void;
}
