/** The port pools: one for each (source address, server address, port and protocol), whichever frontends and backends share them. */
import { PortPool } from '../flow/port-pool.ts';
import { ALL_PORTS, type PortSlice } from '../packet/steering.ts';
import type { Endpoint } from './endpoints.ts';

interface PoolEntry {
  readonly pool: PortPool;
  readonly source: number;
  readonly server: Endpoint;
  /** Nobody claims from it any more: it goes when its last port has come back. */
  retired: boolean;
}

/** Whether connections from `source` to `server` may still be opened. */
export type IsWanted = (server: Endpoint, source: number) => boolean;

/** All pools of one core, by index. */
export class Pools {
  /** Flows name their pool by its place here, which is not given away while one of its ports is out. */
  readonly #places: (PoolEntry | undefined)[] = [];
  readonly #free: number[] = [];
  /** By source address and protocol, then by the server's address and port: numbers, of which a reload asks thousands. */
  readonly #bySource = new Map<number, Map<number, number>>();
  readonly #slice: PortSlice;
  #count = 0;
  #version = 0;

  /** @param slice the ports that each of them has */
  constructor(slice: PortSlice = ALL_PORTS) {
    this.#slice = slice;
  }

  /** Goes up whenever {@link sources} may have changed. */
  get version(): number {
    return this.#version;
  }

  /** The source addresses that have a pool: ports of those that nobody claims from any more are still out. Native order. */
  sources(): number[] {
    return [...new Set([...this.#bySource.keys()].map((key) => Math.floor(key / SOURCE_KEY) | 0))];
  }

  /** Ports of each. */
  get portsEach(): number {
    return this.#slice.count;
  }

  /** How many there are. */
  get size(): number {
    return this.#count;
  }

  /** The index of a pool, made when it is asked for first. `source` in native order. */
  indexOf(source: number, server: Endpoint): number {
    const sourceKey = sourceKeyOf(source, server);
    let servers = this.#bySource.get(sourceKey);
    if (servers === undefined) {
      this.#bySource.set(sourceKey, (servers = new Map()));
      this.#version++;
    }
    const key = keyOf(server);
    let index = servers.get(key);
    if (index === undefined) {
      index = this.#free.pop() ?? this.#places.length;
      this.#places[index] = { pool: new PortPool(this.#slice), source, server, retired: false };
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
      place.retired = !isWanted(place.server, place.source);
      if (place.retired) this.#discard(index, place);
    });
  }

  #discard(index: number, { pool, source, server }: PoolEntry): void {
    if (pool.available < pool.size) return;
    const sourceKey = sourceKeyOf(source, server);
    const servers = this.#bySource.get(sourceKey)!;
    servers.delete(keyOf(server));
    if (servers.size === 0) {
      this.#bySource.delete(sourceKey);
      this.#version++;
    }
    this.#places[index] = undefined;
    this.#free.push(index);
    this.#count--;
  }
}

/** What a source's address is multiplied by in its key: beside it there is room for a protocol's number. */
const SOURCE_KEY = 256;

/** 40 bits, exact in a number. */
function sourceKeyOf(source: number, { protocol }: Endpoint): number {
  return (source >>> 0) * SOURCE_KEY + protocol;
}

/** 48 bits. */
function keyOf({ address, port }: Endpoint): number {
  return (address >>> 0) * 65536 + port;
}
