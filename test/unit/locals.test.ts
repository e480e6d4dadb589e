/** This host's other addresses, for backends whose servers answer clients through it. */
import { expect, test } from 'vitest';
import { Locals } from '../../src/engine/locals.ts';
import type { ServiceSet } from '../../src/forward/service-set.ts';

const choice = { scheduler: 'roundrobin', candidates: [], table: undefined, turns: undefined } as const;
const set = (mode: 'destination' | 'passthrough'): ServiceSet => ({ frontends: [], backends: [{ name: 'b', mode, choice, servers: [] }] });

test('are told where servers see their clients, and asked for there alone', () => {
  let addresses = [1, 2];
  let asked = 0;
  const locals = new Locals(() => {
    asked++;
    return addresses;
  });
  expect(locals.in(set('passthrough'))).toEqual(set('passthrough'));
  expect([locals.haveChanged(), asked]).toEqual([false, 0]);
  expect(locals.in(set('destination')).locals).toEqual([1, 2]);
  expect(locals.haveChanged()).toBe(false);
  addresses = [1, 3];
  expect(locals.haveChanged()).toBe(true);
  expect(locals.in(set('destination')).locals).toEqual([1, 3]);
  expect(locals.haveChanged()).toBe(false);
  locals.in(set('passthrough'));
  addresses = [];
  expect(locals.haveChanged()).toBe(false);
});

test('of this host are there: the loopback at least', () => {
  expect(new Locals().in(set('destination')).locals).toContain(0x0100007f);
});
