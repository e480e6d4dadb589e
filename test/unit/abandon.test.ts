/** lb4 fails: what the next one can go on with stays, as after a kill; else nothing does. */
import { beforeEach, expect, test, vi } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { createLogger } from '../../src/log.ts';
import { Members } from '../../src/service/members.ts';
import { PacketPath } from '../../src/service/packet-path.ts';
import { makePlan, UNCHECKED } from '../../src/service/plan.ts';
import type { Takeover } from '../../src/service/takeover.ts';

/** What was done to host and table. */
const done: string[] = [];
/** What an lb4 that died has left, and what becomes of this one. */
const host = {
  isLeft: false,
  starts: true,
  claims: false,
  isOthers: false,
  isFound: false,
  mortal: undefined as string | undefined,
  lost: undefined as string | undefined,
};

vi.mock('../../src/io/namespace-lock.ts', () => ({
  deathIsOver: async () => {},
  lockNamespace: () => {
    if (host.isOthers) throw new Error('another lb4 forwards packets');
    return {
      missing: () => undefined,
      putBack: () => {},
      abandon: () => done.push('lock left'),
      release: () => done.push('lock gone'),
    };
  },
}));
vi.mock('../../src/service/firewall.ts', () => ({
  Firewall: class {
    states = [];
    install = async () => {};
    remove = async () => void done.push('rules gone');
  },
}));
vi.mock('../../src/service/kept-note.ts', async (original) => ({
  ...(await original<typeof import('../../src/service/kept-note.ts')>()),
  forgetNotes: () => done.push('notes gone'),
  readNote: () => undefined,
}));
vi.mock('../../src/engine/engine.ts', () => ({
  wouldInherit: () => host.isLeft,
  Engine: {
    start: async ({ own }: { own: () => void }) => {
      if (host.claims) own();
      if (!host.starts) throw Object.assign(new Error('setsockopt(PACKET_RX_RING): Cannot allocate memory'), { code: 'ENOMEM' });
      return {
        inheritance: { isFound: host.isFound, connections: 0, refused: undefined, mortal: host.mortal },
        lostTable: () => host.lost,
        fastPath: () => undefined,
        stop: async (keep: boolean) => void done.push(keep ? 'table left' : 'table gone'),
      };
    },
  },
}));

const LEFT = ['table left', 'lock left'];
const GONE = ['table gone', 'rules gone', 'notes gone', 'lock gone'];

let lines = '';
beforeEach(() => {
  done.length = 0;
  lines = '';
  Object.assign(host, { isLeft: false, starts: true, claims: false, isOthers: false, isFound: false, mortal: undefined, lost: undefined });
});

function start(takeover?: Pick<Takeover, 'isTaken' | 'isOrphan' | 'take' | 'goesOn'>): Promise<PacketPath> {
  const toml = '[frontends.web]\nlisten_addr = "192.0.2.1:80"\nbackend = "app"\n[backends.app.servers]\na = { addr = "10.0.0.1:80" }\n';
  const { config } = parseConfig(toml, 'test.toml');
  const plan = makePlan(config, 'passthrough', new Members(config), UNCHECKED, undefined);
  const log = createLogger({ stream: { write: (line: string) => (lines += line) } });
  return PacketPath.start(
    plan,
    { mode: 'passthrough', rules: true, remember: () => {}, takeover },
    { log, failed: () => {}, signal: () => {}, ended: () => {}, nameOf: () => undefined },
  );
}

test.each([
  ['nothing was left', false, ['rules gone', 'notes gone', 'lock gone'], false],
  ['an lb4 died here', true, ['lock left'], true],
])('no memory for the ring, and %s', async (_, isLeft, expected, isTold) => {
  Object.assign(host, { isLeft, starts: false });
  await expect(start()).rejects.toThrow('PACKET_RX_RING');
  expect([done, lines.includes('wait for the next start')]).toEqual([expected, isTold]);
});

test.each([
  ['a start that found nothing fails later', { isFound: false }, { hasServed: false }, GONE],
  ['one that found a table', { isFound: true }, { hasServed: false }, LEFT],
  ['after it has served', { isFound: false }, { hasServed: true }, LEFT],
  ['soon after it found a table, which may be the cause', { isFound: true }, { hasServed: true }, GONE],
  ['long after that', { isFound: true }, { hasServed: true, after: 60_000 }, LEFT],
  ['where the table is no file', { mortal: 'no tmpfs' }, { hasServed: true }, GONE],
  ['where its file was taken away', { lost: '/run/lb4/kept-1/table' }, { hasServed: true }, GONE],
] as const)('%s', async (_, found, { hasServed, ...more }, expected) => {
  Object.assign(host, found);
  const now = vi.spyOn(performance, 'now').mockReturnValue(1000);
  const path = await start();
  now.mockReturnValue(1000 + ('after' in more ? more.after : 0));
  await path.abandon(hasServed);
  now.mockRestore();
  expect([done, lines.includes('wait for the next start')]).toEqual([expected, expected === LEFT]);
});

test('a stop that was asked for leaves nothing', async () => {
  host.isFound = true;
  await (await start()).stop();
  expect(done).toEqual(GONE);
});

const HERE: Parameters<typeof start>[0] = { isTaken: false, isOrphan: false, take: async () => {}, goesOn: async () => true };

test.each([
  ['before the other one has let go: all is still that one’s', {}, {}, [], 'PACKET_RX_RING'],
  ['after that: the table and the rules stay', { isTaken: true }, { isLeft: true, claims: true }, ['lock left'], 'PACKET_RX_RING'],
  ['and the other one is dead', { goesOn: async () => false }, { isLeft: true }, ['lock left'], 'PACKET_RX_RING'],
  ['and the other one has stopped', { goesOn: async () => false }, {}, ['rules gone', 'notes gone', 'lock gone'], 'PACKET_RX_RING'],
  ['since a third one has started: all is that one’s', { isTaken: true }, { claims: true, isOthers: true }, [], 'another lb4'],
])('a takeover fails %s', async (_, takeover, more, expected, says) => {
  Object.assign(host, { starts: false, ...more });
  await expect(start({ ...HERE, ...takeover })).rejects.toThrow(says);
  expect([done, lines.includes('wait for the next start')]).toEqual([expected, expected[0] === 'lock left']);
});

test('one that has let go says and does no more', async () => {
  const path = await start();
  await path.letGo();
  expect(done).toEqual(LEFT);
  host.lost = '/run/lb4/kept-1/table';
  expect(path.obstacle()).toBeUndefined();
  await path.abandon(true);
  expect(done).toEqual(LEFT);
  expect(lines).not.toContain('wait for the next start');
});
