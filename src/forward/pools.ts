/** The port pools: one for each (source address, server address and port), whichever frontends and backends share them. */
import { PortPool } from '../flow/port-pool.ts';

interface PoolEntry {
  readonly pool: PortPool;
  readonly source: number;
  readonly address: number;
  readonly port: number;
  /** Nobody claims from it any more: it goes when its last port has come back. */
  retired: boolean;
}

/** Whether connections from `source` to the server at (`address`, `port`) may still be opened. */
export type IsWanted = (address: number, port: number, source: number) => boolean;

export class Pools {
  /** Flows name their pool by its place here, which is not given away while one of its ports is out. */
  readonly #places: (PoolEntry | undefined)[] = [];
  readonly #free: number[] = [];
  /** By source address, then by {@link keyOf} the server: numbers, of which a reload asks thousands. */
  readonly #bySource = new Map<number, Map<number, number>>();
  #count = 0;

  /** How many there are. */
  get size(): number {
    return this.#count;
  }

  /** The index of a pool, made when it is asked for first. Addresses in native order, the port in host order. */
  indexOf(source: number, address: number, port: number): number {
    let servers = this.#bySource.get(source);
    if (servers === undefined) this.#bySource.set(source, (servers = new Map()));
    const key = keyOf(address, port);
    let index = servers.get(key);
    if (index === undefined) {
      index = this.#free.pop() ?? this.#places.length;
      this.#places[index] = { pool: new PortPool(), source, address, port, retired: false };
      servers.set(key, index);
      this.#count++;
    }
    return index;
  }

  /** The pool of an index; undefined for NONE. */
  at(index: number): PortPool | undefined {
    return this.#places[index]?.pool;
  }

  /** Gives a port back to the pool it came from. */
  release(index: number, port: number): void {
    const place = this.#places[index]!;
    place.pool.release(port);
    if (place.retired) this.#discard(index, place);
  }

  /** Retires the pools that are not wanted any more, so that thousands of reloads do not pile them up. */
  retain(isWanted: IsWanted): void {
    this.#places.forEach((place, index) => {
      if (place === undefined) return;
      place.retired = !isWanted(place.address, place.port, place.source);
      if (place.retired) this.#discard(index, place);
    });
  }

  #discard(index: number, { pool, source, address, port }: PoolEntry): void {
    if (pool.available < pool.size) return;
    const servers = this.#bySource.get(source)!;
    servers.delete(keyOf(address, port));
    if (servers.size === 0) this.#bySource.delete(source);
    this.#places[index] = undefined;
    this.#free.push(index);
    this.#count--;
  }
}

/** 48 bits, exact in a number. */
function keyOf(address: number, port: number): number {
  return (address >>> 0) * 65536 + port;
}
