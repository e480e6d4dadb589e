import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Bitmap } from '../../src/flow/bitmap.ts';
import { FlowTable, hashKey, hashTuple, REST_MS, tableCapacity } from '../../src/flow/table.ts';
import * as E from '../../src/layout/flow.ts';
import { SERVER_HOPS } from '../../src/layout/hops.ts';
import { flowWords } from '../../src/layout/memory.ts';
import { TCP } from '../../src/packet/fields.ts';
import { CLIENT, VIP, World } from '../lab/world.ts';

const { PROBES } = E;
const CAPACITY = 256;
const KIND = E.live(TCP);
const KEY = hashKey(new Uint32Array([0x12345678, 0x9e3779b1, 0x85ebca6b, 0xc2b2ae35]));
type Tuple = readonly [source: number, destination: number, ports: number];

const create = (capacity = CAPACITY, isInKernel = false) => new FlowTable(new Int32Array(flowWords(capacity)), capacity, KEY, isInKernel);

function insert(table: FlowTable, tuple: Tuple, now = 0): number {
  const slot = table.reserve(...tuple, now);
  if (slot !== E.NONE) table.publish(slot, KIND);
  return slot;
}

/** Tuples whose home is `home`. */
function neighbours(home: number, count: number): Tuple[] {
  const found: Tuple[] = [];
  const table = create();
  for (let source = 1; found.length < count; source++) if (table.homeOf(hashTuple(KEY, source, 2, 3)) === home) found.push([source, 2, 3]);
  return found;
}

const states = (table: FlowTable) => Array.from({ length: table.end }, (_, slot) => table.words[slot * E.ENTRY + E.STATE] & E.KEYED);

describe('against a Map', () => {
  type Model = Map<string, { slot: number; tuple: Tuple }>;
  const checkAll = (model: Model, table: FlowTable) => {
    expect(table.size).toBe(model.size);
    for (const { slot, tuple } of model.values()) expect(table.find(...tuple, KIND)).toBe(slot);
  };
  // Few homes, so that runs are long and meet each other, at either end of the table too.
  const keys = [...neighbours(254, 30), ...neighbours(255, 30), ...neighbours(0, 30), ...neighbours(40, 5)];
  const tuple = fc.constantFrom(...keys);

  test('insert, find and remove agree', () => {
    const commands = fc.array(fc.tuple(fc.constantFrom('insert', 'insert', 'remove', 'find'), tuple), { maxLength: 300, size: 'max' });
    fc.assert(
      fc.property(commands, (steps) => {
        const table = create();
        const model: Model = new Map();
        for (const [what, key] of steps) {
          const known = model.get(key.join());
          expect(table.find(...key, KIND)).toBe(known?.slot ?? E.NONE);
          if (what === 'insert' && !known) {
            const slot = insert(table, key);
            if (slot !== E.NONE) model.set(key.join(), { slot, tuple: key });
          } else if (what === 'remove' && known) {
            table.remove(known.slot);
            model.delete(key.join());
          }
        }
        checkAll(model, table);
        for (const { slot } of model.values()) table.remove(slot);
        expect(table.size).toBe(0);
      }),
    );
  });

  test('a table whose every entry was removed is all EMPTY again, in whatever order', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray(keys, { minLength: 1 }), fc.infiniteStream(fc.nat()), (some, random) => {
        const table = create();
        const slots = some.map((key) => insert(table, key)).filter((slot) => slot !== E.NONE);
        while (slots.length > 0) table.remove(slots.splice(random.next().value! % slots.length, 1)[0]);
        expect(states(table).every((state) => state === E.EMPTY)).toBe(true);
      }),
    );
  });
});

describe('deletion', () => {
  test('leaves a tombstone where a probe must pass, moves nothing, and cleans up when it can', () => {
    const table = create();
    const [a, b, c] = neighbours(10, 3).map((key) => insert(table, key));
    expect([a, b, c]).toEqual([10, 11, 12]);
    table.remove(11);
    table.remove(10);
    expect(states(table).slice(10, 13)).toEqual([E.TOMBSTONE, E.TOMBSTONE, KIND]);
    expect(table.find(...neighbours(10, 3)[2], KIND)).toBe(12);
    table.remove(12);
    expect(states(table).slice(10, 13)).toEqual([E.EMPTY, E.EMPTY, E.EMPTY]);
  });

  test('a tombstone is used again', () => {
    const table = create();
    const keys = neighbours(10, 4);
    for (const key of keys.slice(0, 3)) insert(table, key);
    table.remove(11);
    expect(insert(table, keys[3])).toBe(11);
  });
});

describe('recount: a table that another left', () => {
  test('its live entries are counted', () => {
    const table = create(1024);
    const kept = new Bitmap(table.end);
    for (let i = 0; i < 5; i++) kept.add(insert(table, [i, 7, 9]));
    const next = new FlowTable(table.words, 1024, KEY);
    expect(next.size).toBe(0);
    next.recount(kept, 0);
    expect(next.size).toBe(5);
  });

  test('those that are not kept go, and with them the tombstones that no probe needs', () => {
    const table = create();
    const keys = neighbours(10, 6);
    for (const key of keys) insert(table, key);
    table.remove(11);
    table.remove(14);
    const next = new FlowTable(table.words, table.capacity, KEY);
    const kept = new Bitmap(table.end);
    kept.add(12);
    next.recount(kept, 0);
    expect(states(next).slice(10, 16)).toEqual([E.TOMBSTONE, E.TOMBSTONE, KIND, E.EMPTY, E.EMPTY, E.EMPTY]);
    expect([next.size, next.find(...keys[2], KIND)]).toEqual([1, 12]);
  });
});

describe('the scratch entry', () => {
  test('is nobody else’s, and is not found', () => {
    const table = create();
    const tuple: Tuple = [4, 5, 6];
    expect(table.borrow(...tuple)).toBe(table.end + 1);
    expect(table.words.slice((table.end + 1) * E.ENTRY).subarray(0, 4)).toEqual(new Int32Array([E.EMPTY, ...tuple]));
    expect(table.find(...tuple, KIND)).toBe(E.NONE);
    expect(states(table).every((state) => state === E.EMPTY)).toBe(true);
  });

  test('is behind the one that is never live, from which on everything can be read ahead', () => {
    const table = create();
    expect([table.nowhere + 1, (table.nowhere + E.READ_AHEAD) * E.ENTRY]).toEqual([table.scratch, table.words.length]);
  });
});

test('two may be reserved before either is published', () => {
  const table = create();
  const [a, b] = neighbours(10, 2);
  const first = table.reserve(...a, 0);
  expect([first, table.reserve(...b, 0, first)]).toEqual([10, 11]);
});

describe('a slot that the kernel has had', () => {
  const lent = () => {
    const table = create(CAPACITY, true);
    const keys = neighbours(10, 4);
    const slot = insert(table, keys[0]);
    table.setFast(slot, true);
    return { table, keys, slot };
  };

  test.each([0, 0x7fffffff, -1])('rests once its flow is gone: the clock at %i', (gone) => {
    for (const isTakenBack of [true, false]) {
      const { table, keys, slot } = lent();
      if (isTakenBack) table.setFast(slot, false);
      table.rest(slot, gone);
      table.remove(slot);
      expect(states(table)).not.toContain(E.TOMBSTONE);
      // Nobody else has what the kernel may still write of it …
      expect(insert(table, keys[1], (gone + REST_MS - 1) | 0)).toBe(slot + 1);
      expect([table.find(...keys[0], KIND), table.find(...keys[1], KIND)]).toEqual([E.NONE, slot + 1]);
      // … and then anybody, who does not rest for that.
      expect(insert(table, keys[2], (gone + REST_MS) | 0)).toBe(slot);
      table.rest(slot, gone + REST_MS);
      table.remove(slot);
      expect(insert(table, keys[3], (gone + REST_MS) | 0)).toBe(slot);
    }
  });

  test('rests for the next process, too', () => {
    const { table, keys, slot } = lent();
    // However long its last packet is gone: until now the kernel might have had one more.
    table.words[slot * E.ENTRY + E.SEEN] = 7;
    table.recount(new Bitmap(table.end), 7 + 10 * REST_MS);
    expect(insert(table, keys[1], 8 + 10 * REST_MS)).toBe(slot + 1);
    expect(table.find(...keys[1], KIND)).toBe(slot + 1);
  });

  test('rests though a late packet has been seen after this batch came', () => {
    const { table, keys, slot } = lent();
    table.rest(slot, 1000);
    table.remove(slot);
    table.words[slot * E.ENTRY + E.SEEN] = 1003;
    expect(insert(table, keys[1], 1001)).toBe(slot + 1);
    expect(insert(table, keys[2], 1003 + REST_MS)).toBe(slot);
  });

  test('rests for nothing where the kernel has no part in the table', () => {
    const table = create();
    const keys = neighbours(10, 2);
    const slot = insert(table, keys[0]);
    table.setFast(slot, true);
    expect(table.words[slot * E.ENTRY + E.STATE] & (E.FAST | E.LENT)).toBe(E.FAST);
    table.rest(slot, 0);
    table.remove(slot);
    expect(insert(table, keys[1], 0)).toBe(slot);
  });
});

describe('a full neighbourhood', () => {
  test('refuses the newcomer, evicts nobody', () => {
    const table = create();
    const keys = neighbours(100, PROBES + 1);
    const slots = keys.slice(0, PROBES).map((key) => insert(table, key));
    expect(slots).toEqual(Array.from({ length: PROBES }, (_, i) => 100 + i));
    expect(insert(table, keys[PROBES])).toBe(E.NONE);
    expect(table.find(...keys[PROBES], KIND)).toBe(E.NONE);
    expect(table.size).toBe(PROBES);
    expect(keys.slice(0, PROBES).map((key) => table.find(...key, KIND))).toEqual(slots);
    table.remove(slots[5]);
    expect(insert(table, keys[PROBES])).toBe(slots[5]);
  });
});

test.each([0, 64, 128, 255, 1000.5, 2 ** 20 + 1, 2 ** 21 + 2])('a capacity of %i is refused', (capacity) => {
  expect(() => new FlowTable(new Int32Array(), capacity, KEY)).toThrow(RangeError);
});

describe('a table of any size', () => {
  const BINS = 32;
  const capacities = [1, 77, 1000, 10_000, 123_456].map(tableCapacity);

  test.each(capacities)('of %i homes: each is as likely as another, and none lies outside', (capacity) => {
    const table = create(capacity);
    const counts = new Uint32Array(BINS);
    const draws = 1 << 18;
    for (let i = 0; i < draws; i++) {
      const home = table.homeOf(hashTuple(KEY, i, 2, 3));
      counts[Math.floor((home * BINS) / capacity)]++;
    }
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(draws);
    // Six standard deviations, and that one bin may hold a home more than another.
    const mean = draws / BINS;
    for (const count of counts) expect(Math.abs(count - mean)).toBeLessThan(mean * (BINS / capacity + 0.005) + 6 * Math.sqrt(mean));
  });

  test('the first and the last hash have the first and the last home', () => {
    for (const capacity of capacities) expect([0, -1].map((hash) => create(capacity).homeOf(hash))).toEqual([0, capacity - 1]);
  });

  test('the home is what 64-bit integers would find, in large tables, too', () => {
    for (const connections of [100_000, 1_000_000, 3_333_333, 10_000_000]) {
      const homes = tableCapacity(connections);
      const table = { scale: homes / 2 ** 32 };
      // Hashes on both sides of where the home changes.
      for (let home = 1; home < homes; home += 9973) {
        const first = (BigInt(home) << 32n) / BigInt(homes);
        for (const hash of [first - 1n, first, first + 1n])
          expect(FlowTable.prototype.homeOf.call(table, Number(BigInt.asIntN(32, hash)))).toBe(Number((hash * BigInt(homes)) >> 32n));
      }
    }
  });

  test('holds what it is made for, both directions of each connection', () => {
    const connections = 100_000;
    const table = create(tableCapacity(connections));
    for (let i = 0; i < 2 * connections; i++) insert(table, [i, 2, 3]);
    expect(table.size).toBe(2 * connections);
    expect(table.size / table.capacity).toBeGreaterThan(0.6);
  });
});

test('too little memory is refused', () =>
  expect(() => new FlowTable(new Int32Array(flowWords(CAPACITY) - 1), CAPACITY, KEY)).toThrow(/too few/));

describe('the hash', () => {
  // Real traffic: consecutive addresses, ports and servers. 65,536 tuples into 1,024 bins, χ² with 1,023 degrees of
  // freedom: mean 1,023, standard deviation 45.
  const families: Record<string, (i: number) => Tuple> = {
    'of consecutive client ports': (i) => [0x0900000a, 0x010200c0, i | (0x5000 << 16)],
    'of ports in network order': (i) => [0x0900000a, 0x010200c0, ((i & 0xff) << 8) | (i >>> 8) | (0x5000 << 16)],
    'of consecutive client addresses': (i) => [0x0a | ((i >>> 8) << 16) | ((i & 0xff) << 24), 0x010200c0, 0x50001388],
    'of replies to consecutive ports': (i) => [0x010010ac, 0x010200c0, 0x901f | (i << 16)],
  };
  test.each(Object.entries(families))('spreads the tuples %s, in the bits that name a home', (_, tuple) => {
    const key = hashKey(new Uint32Array([0xdeadbeef, 0x2545f491, 0x9e3779b1, 0x85ebca6b]));
    for (const shift of [22, 12, 7]) {
      const bins = new Uint32Array(1024);
      for (let i = 0; i < 65536; i++) bins[(hashTuple(key, ...tuple(i)) >>> shift) & 1023]++;
      const chi = bins.reduce((total, n) => total + (n - 64) ** 2 / 64, 0);
      expect(chi).toBeLessThan(1023 + 10 * 45);
    }
  });

  test('multipliers are odd whatever the random bytes', () => {
    expect(hashKey(new Uint32Array([0, 0, 2, 4])).slice(1)).toEqual([1, 3, 5]);
  });
});

test('a slot that is taken anew has another version, whatever stood between', () => {
  const table = create();
  const [key] = neighbours(10, 1);
  const versions = Array.from({ length: 3 }, () => {
    const slot = insert(table, key);
    const version = table.words[slot * E.ENTRY + E.STATE] >>> E.VERSION_SHIFT;
    table.remove(slot);
    return version;
  });
  expect(versions).toEqual([1, 2, 3]);
});

test('a reader that sees LIVE sees the whole entry: after every single store', () => {
  const capacity = 256;
  const memory = new Int32Array(flowWords(capacity));
  let stores = 0;
  const spied = new Proxy(memory, {
    get: (target, name) => Reflect.get(target, name, target) as unknown,
    set(target, name, value) {
      Reflect.set(target, name, value, target);
      stores++;
      for (let at = 0; at < target.length; at += E.ENTRY)
        if ((target[at + E.STATE] & E.PRESENCE) === E.LIVE) wholeEntry(target.subarray(at, at + E.ENTRY));
      return true;
    },
  });
  const world = new World({ capacity, memory: { flows: spied } });
  // Reused entries are full of what was there before.
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 20; i++) {
      const packet = { source: CLIENT, destination: VIP, tcp: { from: 5000 + i + round, to: 80, flags: 'S' } };
      expect(world.send(packet).verdict).toBe('opened');
    }
    world.sweepAll((world.now + 1_000_000) >>> 0);
    expect(world.table.size).toBe(0);
  }
  expect(stores).toBeGreaterThan(1000);
});

/** Every field is of one generation: the rewrite belongs to the key, and the next hop to the direction. */
function wholeEntry(entry: Int32Array): void {
  const [client, vip] = [0x0900000a, 0x010200c0];
  const toServer = entry[E.SOURCE] === client;
  const server = toServer ? entry[E.NEW_DESTINATION] : entry[E.SOURCE];
  const ok = toServer
    ? entry[E.DESTINATION] === vip && entry[E.NEW_SOURCE] === vip && entry[E.NEXT_HOP] < SERVER_HOPS
    : entry[E.NEW_DESTINATION] === client && entry[E.NEW_SOURCE] === vip && entry[E.NEXT_HOP] >= SERVER_HOPS;
  const known = [0x010010ac, 0x020010ac].includes(server);
  if (!ok || !known || entry[E.NEW_PORTS] === 0) throw new Error(`half-written: ${entry.join(' ')}`);
}
