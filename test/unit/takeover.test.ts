/** The two ends of a takeover, without anything to hand over: what becomes of it where one of them changes its mind, or is gone. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { proxyPoint } from '../../src/io/meeting-point.ts';
import type { Logger } from '../../src/log.ts';
import { type Asker, Door } from '../../src/service/door.ts';
import { Takeover } from '../../src/service/takeover.ts';

const directory = mkdtempSync(join(tmpdir(), 'lb4-takeover-'));
process.env['XDG_RUNTIME_DIR'] ??= directory;
afterAll(() => rmSync(directory, { recursive: true }));

const log = { info: () => {}, warn: () => {} } as unknown as Logger;
const OFFER = { health: [], stats: undefined };

/** A door, whoever comes to it being dealt with by `handOver`, and one that has begun to take over by it. */
async function met(name: string, handOver: (asker: Asker) => Promise<unknown>, isStopping = () => false) {
  const file = join(directory, name);
  writeFileSync(file, '');
  let told: (asker: Asker) => Promise<void> = async () => {};
  const handedOver = new Promise<unknown>((resolve) => {
    told = async (asker) => resolve(await handOver(asker));
  });
  const door = await Door.open(() => proxyPoint(file), { mode: 'proxy', rules: true, log, handOver: told });
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
