/** What doctor has to say of a fan-out. */
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { fanOut, type Looks } from '../../src/doctor/fan-out.ts';
import { FailureError, KernelFeatureError } from '../../src/errors.ts';

const { config } = parseConfig('[fan_out.squid]\nlisten = "3128"\nports = [3129, 3130]\n', 'f', { mode: 'fan-out' });
const RULE = 'fib daddr type local tcp dport 3128 redirect to :numgen inc mod 2 map { 0 : 3129, 1 : 3130 }';
const HEARD = 'present process at port 3129/tcp\npresent process at port 3130/tcp\n';

/** Its lines, but for those of this process's own privileges. */
async function lines(looks: Partial<Looks>): Promise<string[]> {
  const here: Looks = {
    holder: undefined,
    dead: undefined,
    status: () => Promise.resolve(`present ${RULE}\n${HEARD}`),
    read: () => undefined,
  };
  const found = await fanOut(config, { ...here, ...looks });
  return found.filter(({ check }) => check !== 'privileges').map(({ level, message, mend = '' }) => `${level} ${message}; ${mend}`);
}

const says = (text: string) => ({ status: () => Promise.resolve(text) });

test('all is well', async () =>
  expect(await lines({})).toEqual([
    'ok the kernel has all rules of the file (1); nobody takes out a process that dies: no lb4 --fan-out runs; ',
    'ok all 2 listen at all addresses; ',
  ]));

describe('rules', () => {
  test.each([
    ['none are there', HEARD, /^warn none of its rules are here, .*; lb4 --fan-out --config=f; or, .*--apply --config=f$/],
    [
      'one is missing',
      `present a\nmissing ${RULE}\n${HEARD}`,
      /^fail 1 rule of the file's missing: fib daddr .*; lb4 rules --fan-out --apply --config=f$/,
    ],
    [
      'one is too many',
      `present ${RULE}\nstale other\n${HEARD}`,
      /^warn 1 rule here that the file has not: other; lb4 rules --fan-out --apply/,
    ],
  ])('%s', async (_, text, line) => expect((await lines(says(text)))[0]).toMatch(line));

  test('of one that runs are its own, by what its checks know', async () =>
    expect((await lines({ holder: { pid: 7 }, ...says(`missing ${RULE}\n${HEARD}`) }))[0]).toBe(
      'ok an lb4 --fan-out (pid 7) runs here and looks after the rules; ',
    ));

  test('of one that was killed go on', async () =>
    expect((await lines({ dead: { pid: 7 } }))[0]).toMatch(
      /^fail an lb4 --fan-out \(pid 7\) was killed here: .*; start it again; or, never to: .*--remove/,
    ));

  test.each([
    [
      new KernelFeatureError('iptables not found: apt-get install iptables'),
      'fail iptables not found: apt-get install iptables; apt-get install nftables',
    ],
    [new FailureError('nft: no'), 'fail nft: no; apt-get install nftables'],
  ])('cannot be read: %s', async (error, line) => expect(await lines({ status: () => Promise.reject(error) })).toEqual([line]));
});

describe('processes', () => {
  test.each([
    ['missing process at port 3129/tcp: nobody listens', /^fail the process at port 3129\/tcp: nobody listens; .*; start it, or/],
    [
      'missing process at port 3129/tcp, at all addresses: it listens at 127.0.0.1 alone',
      /^fail the process at port 3129.* alone; .*; have it listen at 0/,
    ],
    ['', /^warn whether they listen cannot be told without ss; apt-get install iproute2$/],
  ])('%s', async (text, line) => expect((await lines(says(`present ${RULE}\n${text}`)))[1]).toMatch(line));
});

test("conntrack's table that fills is told", async () => {
  const read = (path: string) => (path.endsWith('count') ? '52429\n' : '65536\n');
  expect((await lines({ read })).at(-1)).toMatch(
    /^warn conntrack's table has 52,429 of 65,536 entries, .*; sysctl -w net\.netfilter\.nf_conntrack_max=131072$/,
  );
});
