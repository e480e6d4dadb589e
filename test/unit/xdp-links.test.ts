/** Where the XDP program finds that it stands. */
import { beforeEach, expect, test, vi } from 'vitest';
import { XdpLinks } from '../../src/io/xdp-links.ts';
import { PLACES, PROBES } from '../../src/layout/links.ts';

const map = vi.hoisted(() => ({ elements: new Map<number, Uint8Array>() }));

vi.mock('../../src/io/native.ts', () => ({
  native: () => ({ setElement: (_: number, key: number, value: Uint8Array) => void map.elements.set(key, value) }),
}));

beforeEach(() => map.elements.clear());

/** As native/bpf/lb4.bpf.c looks for one: its last byte, undefined where it is not found. */
function find(index: number): number | undefined {
  for (let probe = 0; probe < PROBES; probe++) {
    const element = map.elements.get((index + probe) % PLACES);
    if (element !== undefined && new Uint32Array(element.buffer)[0] === index) return element[11];
  }
  return undefined;
}

const link = (index: number) => ({ index, mac: Uint8Array.of(2, 0, 0, 0, 0, index & 255), kind: '' });

test('interfaces whose index has the same lower bits are told apart', () => {
  const links = new XdpLinks(3);
  const all = [PLACES - 1, 2 * PLACES - 1, 2 * PLACES, 7 * PLACES - 1];
  all.forEach((index, i) => links.set(link(index), i % 2 === 0));
  expect(all.map(find)).toEqual([1, 0, 1, 0]);
  links.set(link(all[1]), true);
  links.delete(all[0]);
  links.delete(9);
  expect(all.map(find)).toEqual([undefined, 1, 1, 0]);
  links.set(link(all[0]), true);
  expect(all.map(find)).toEqual([1, 1, 1, 0]);
});

test('more than there are places for are refused, until one goes', () => {
  const links = new XdpLinks(3);
  const all = Array.from({ length: PROBES + 1 }, (_, i) => 5 + i * PLACES);
  for (const index of all.slice(1)) links.set(link(index), true);
  expect(() => links.set(link(all[0]), true)).toThrow(`${PROBES} others have the places of interface 5`);
  links.delete(all[3]);
  links.set(link(all[0]), true);
  expect(all.map(find).filter((one) => one === undefined)).toHaveLength(1);
});
