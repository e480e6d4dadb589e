/**
 * The fast path's programs and maps (native/bpf): loading them, and where they are kept. What they decide by is the flow table and
 * the next hops, which stand in two of the maps.
 */
import { readFileSync } from 'node:fs';
import { HOPS } from '../layout/hops.ts';
import { flowEntries, type HashKey, type Room } from '../layout/memory.ts';
import { CLIENT_PORTS } from '../layout/ports.ts';
import { steeringKey } from '../packet/steering.ts';
import { type LoadedFastPath, native } from './native.ts';

/** Where it was compiled to: from src/io, and from dist/src/io or dist/src/bundle alike. */
const OBJECTS = ['../../native/bpf/lb4.bpf.o', '../../../native/bpf/lb4.bpf.o'];

/** Maps that another lb4 has left. */
export interface KeptMaps {
  readonly flows: number;
  readonly hops: number;
  readonly counts: number;
}

/** The compiled programs. Undefined where lb4 was built without. */
export function fastPathObject(): Uint8Array | undefined {
  for (const path of OBJECTS) {
    try {
      return readFileSync(new URL(path, import.meta.url));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return undefined;
}

/**
 * Loads the programs for tables of that size and key. Throws the system's error: EPERM, E2BIG, ENOENT (no libbpf) …
 * @param kept maps to go on with
 */
export function loadFastPath(object: Uint8Array, room: Room, key: HashKey, kept?: KeptMaps): LoadedFastPath {
  return native().loadFastPath(object, {
    flows: flowEntries(room.capacity) * room.workers,
    hops: HOPS * room.workers,
    settings: settingsOf(room, key),
    ...(kept === undefined ? {} : { flowsFd: kept.flows, hopsFd: kept.hops, countsFd: kept.counts }),
  });
}

/** `struct settings` of native/bpf/settings.h. */
function settingsOf({ capacity, workers }: Room, key: HashKey): Uint8Array {
  const { first, last } = CLIENT_PORTS;
  return new Uint8Array(Int32Array.of(...key, capacity, flowEntries(capacity), workers, steeringKey(key), first, last).buffer);
}
