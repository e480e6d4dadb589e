/** A control group that may have so much memory, of whichever version this host has. */
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { waitUntil } from './wait.ts';

/** Where one may be made, and its file with the limit. */
function places(): { readonly parent: string; readonly limit: string }[] {
  const own = /^\d+:memory:(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1];
  const first = own === undefined ? [] : [{ parent: `/sys/fs/cgroup/memory${own}`, limit: 'memory.limit_in_bytes' }];
  return [...first, { parent: '/sys/fs/cgroup', limit: 'memory.max' }];
}

export class MemoryGroup {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /** Undefined: none can be made here. */
  static make(bytes: number): MemoryGroup | undefined {
    for (const { parent, limit } of places()) {
      const path = `${parent}/lb4-memory-${process.pid}`;
      try {
        mkdirSync(path);
        writeFileSync(`${path}/${limit}`, `${bytes}`);
        return new MemoryGroup(path);
      } catch {
        remove(path);
      }
    }
    return undefined;
  }

  /** A command that runs another one in it. */
  command(command: readonly string[]): string[] {
    return ['sh', '-c', `echo $$ >${this.#path}/cgroup.procs && exec "$@"`, 'sh', ...command];
  }

  /** Once nobody is in it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await waitUntil(async () => remove(this.#path), { what: 'the control group to be empty', every: 50 });
  }
}

function remove(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch {
    return false;
  }
}
