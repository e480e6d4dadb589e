/** The two ends of a takeover, without anything to hand over: what becomes of it where one of them changes its mind, or is gone. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { proxyPoint } from '../../src/io/meeting-point.ts';
import type { Logger } from '../../src/log.ts';
import { Afterwards } from '../../src/service/afterwards.ts';
import type { Book } from '../../src/service/books.ts';
import { type Asker, Door, type DoorOptions } from '../../src/service/door.ts';
import { Takeover } from '../../src/service/takeover.ts';

const directory = mkdtempSync(join(tmpdir(), 'lb4-takeover-'));
process.env['XDG_RUNTIME_DIR'] ??= directory;
afterAll(() => rmSync(directory, { recursive: true }));

const log = { info: () => {}, warn: () => {} } as unknown as Logger;
const OFFER = { health: [], stats: undefined };

/** A door, whoever comes to it being dealt with by `handOver`, and one that has begun to take over by it. */
async function met(
  name: string,
  handOver: (asker: Asker) => Promise<unknown>,
  isStopping = () => false,
  note: DoorOptions['note'] = () => {},
) {
  const file = join(directory, name);
  writeFileSync(file, '');
  let told: (asker: Asker) => Promise<void> = async () => {};
  const handedOver = new Promise<unknown>((resolve) => {
    told = async (asker) => resolve(await handOver(asker));
  });
  const door = await Door.open(() => proxyPoint(file), { mode: 'proxy', rules: true, log, handOver: told, note });
  const takeover = await Takeover.begin({ file }, { mode: 'proxy', rules: true, log, isStopping });
  return { door, takeover, handedOver };
}

test('one that is asked to stop before it has taken takes nothing', async () => {
  let isStopping = false;
  const { door, takeover, handedOver } = await met(
    'stopping',
    (asker) => asker.takes(OFFER, new Map()),
    () => isStopping,
  );
  isStopping = true;
  await expect(takeover.take()).rejects.toThrow(`asked to stop before it took over: the lb4 that runs (pid ${process.pid}) goes on`);
  expect(takeover.isTaken).toBe(false);
  takeover.abandon();
  expect(await handedOver).toBe(false);
  door?.close();
});

test('one that ends before it has let go is outlived', async () => {
  let door: Door | undefined;
  const begun = await met('gone', async (asker) => {
    const isTaken = await asker.takes(OFFER, new Map());
    door?.close();
    return isTaken;
  });
  door = begun.door;
  await begun.takeover.take();
  expect(await begun.handedOver).toBe(true);
  const { isTaken, isOrphan } = begun.takeover;
  expect([isTaken, isOrphan, await begun.takeover.goesOn()]).toEqual([true, true, false]);
});

test('one that says no more, but is there, is not', async () => {
  const { door, takeover } = await met('there', async (asker) => {
    await asker.takes(OFFER, new Map());
    asker.end();
  });
  await expect(takeover.take()).rejects.toThrow('does not let go');
  expect([takeover.isTaken, takeover.isOrphan, await takeover.goesOn()]).toEqual([false, false, true]);
  door?.close();
});

test('one that gives up right after it said that it takes is not there any more', async () => {
  const { takeover, handedOver, door } = await met('late', async (asker) => [await asker.takes(OFFER, new Map()), await asker.isThere()]);
  const taken = takeover.take().catch(() => {});
  takeover.abandon();
  const [isTaken, isThere] = (await handedOver) as boolean[];
  expect([isTaken, isThere]).toEqual([true, false]);
  await taken;
  door?.close();
});

/** One frontend that has counted so many connections. */
const book = (total: number): Book => {
  const line = { group: '', key: 'web', total, bytesTx: 0, bytesRx: 0, refused: 0, connectFailures: 0, retries: 0 };
  return { frontends: [line], servers: [] };
};
const totals = ({ frontends }: Book) => frontends.map(({ key, total }) => [key, total]);

test('what was counted comes with the word that it has let go', async () => {
  const { takeover, handedOver, door } = await met('counted', async (asker) => {
    await asker.takes(OFFER, new Map());
    return asker.begins(book(7));
  });
  await takeover.take();
  takeover.done();
  expect(await handedOver).toBe(true);
  expect(totals(takeover.counted!)).toEqual([['web', 7]]);
  door?.close();
});

test('what is counted afterwards is told, each once, to whoever is met by then; and where nobody is, that is said', async () => {
  const noted: Book[] = [];
  const file = join(directory, 'afterwards');
  writeFileSync(file, '');
  const open = () =>
    Door.open(() => proxyPoint(file), {
      mode: 'proxy',
      rules: true,
      log,
      handOver: async () => {},
      note: (counted) => noted.push(counted),
    });
  let counted = 5;
  const said: string[] = [];
  const begin = (told: number) =>
    new Afterwards({
      point: proxyPoint(file),
      book: () => book(counted),
      told: book(told),
      log: { warn: (_: object, message: string) => said.push(message) } as unknown as Logger,
    });
  const nobody = begin(3);
  await nobody.end();
  expect(said).toEqual([expect.stringContaining('could not be told')]);
  const first = await open();
  await begin(5).end();
  expect(noted).toEqual([]);
  const afterwards = begin(3);
  counted = 9;
  await vi.waitFor(() => expect(noted.map(totals)).toEqual([[['web', 6]]]));
  first?.close();
  const second = await open();
  counted = 10;
  await afterwards.end();
  expect(noted.slice(1).map(totals)).toEqual([[['web', 1]]]);
  expect(said).toHaveLength(1);
  second?.close();
});
