/** The main thread's listening sockets. Workers accept from duplicates; a socket and its queue live as long as the plan names it. */
import { native } from '../io/native.ts';
import type { FrontendPlan } from './plan.ts';
import { BACKLOG } from './sockets.ts';

/** An address to listen on; two frontends may trade theirs. */
const keyOf = ({ host, port }: FrontendPlan) => `${host} ${port}`;

export class Listeners {
  /** Descriptors by address. */
  #open: ReadonlyMap<string, number>;

  /** @param found those of another process; what no plan wants is closed by the first `close` */
  constructor(found: ReadonlyMap<string, number> = new Map()) {
    this.#open = found;
  }

  get all(): ReadonlyMap<string, number> {
    return this.#open;
  }

  /**
   * Opens what `frontends` need and is not open yet; throws the system's error with the key of its address as `key`, and then
   * nothing has changed. What they do not
   * need stays open until `close`, which is to be called when no worker uses it any more.
   */
  open(frontends: readonly FrontendPlan[]): { listeners: Map<number, number>; close: () => void } {
    const wanted = new Map<string, number>();
    const listeners = new Map<number, number>();
    try {
      for (const frontend of frontends) {
        if (frontend.draining) continue;
        const key = keyOf(frontend);
        const fd = this.#open.get(key) ?? listenFor(frontend);
        wanted.set(key, fd);
        listeners.set(frontend.index, fd);
      }
    } catch (error) {
      closeAll(without(wanted, this.#open));
      throw error;
    }
    const old = this.#open;
    this.#open = wanted;
    return { listeners, close: () => closeAll(without(old, wanted)) };
  }
}

function listenFor({ name, host, port }: FrontendPlan): number {
  try {
    return native().listenTcp(host, port, BACKLOG);
  } catch (error) {
    throw Object.assign(error as Error, { key: ['frontends', name, 'listen_addr'] });
  }
}

function without(some: ReadonlyMap<string, number>, others: ReadonlyMap<string, number>): number[] {
  return [...some].filter(([key]) => !others.has(key)).map(([, fd]) => fd);
}

function closeAll(fds: Iterable<number>): void {
  for (const fd of fds) native().closeFd(fd);
}
