/** Where each key of the schema has its place. */
import { expect, test } from 'vitest';
import { homesOf } from '../../src/config/schema/homes.ts';

test('every key is found, by its name, case and dashes aside, in its table; a table in itself', () => {
  const tables = (name: string) => homesOf(name).map(({ table }) => table);
  expect(tables('deny')).toEqual(['[frontends.NAME]']);
  expect(tables('Listen-Addr')).toEqual(['[frontends.NAME]']);
  expect(tables('maxconn')).toEqual(['[frontends.NAME]', '[backends.NAME.servers.NAME]']);
  expect(tables('servers')).toEqual(['[backends.NAME.servers.NAME]']);
  expect(tables('clients')).toEqual(['[backends.NAME.src_ip_rewrite]']);
  expect(tables('address')).toEqual(['[stats]', '[control]', '[inline.frontends.NAME]']);
  expect(tables('timeouts')).toEqual(['[passthrough.timeouts]']);
  expect(tables('stats')).toEqual(['[stats]']);
  expect(tables('toString')).toEqual([]);
});
