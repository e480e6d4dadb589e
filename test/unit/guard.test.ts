import { Writable } from 'node:stream';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { createLogger } from '../../src/log.ts';
import { Guard } from '../../src/service/guard.ts';

interface World {
  missing: string[];
  /** What looking, and putting back, fail with. */
  blind?: string;
  refused?: string;
  repaired: number;
}

function guarded(world: World) {
  const lines: { level: string; msg: string }[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()) as (typeof lines)[number]);
      done();
    },
  });
  const state = {
    what: 'rules',
    name: 'firewall rules',
    usually: 'a restart does this',
    async verify() {
      if (world.blind !== undefined) throw new Error(world.blind);
      return world.missing;
    },
    async repair() {
      if (world.refused !== undefined) throw new Error(world.refused);
      world.repaired++;
      world.missing = [];
    },
  };
  const guard = new Guard({ states: [state], log: createLogger({ stream, pretty: false, level: 'info' }), inTurn: (work) => work() });
  const messages = () => lines.splice(0).map(({ level, msg }) => `${level}: ${msg}`);
  return { guard, messages, view: () => guard.view[0] };
}

describe('what is missing', () => {
  test('is put back, told in one line and counted; what stands is left alone, silently', async () => {
    const world: World = { missing: ['missing a', 'missing b'], repaired: 0 };
    const { guard, messages, view } = guarded(world);
    await guard.check();
    expect(messages()).toEqual([
      expect.stringMatching(/^warn: firewall rules were missing and are put back \(missing a, and 1 more\): a restart does this/),
    ]);
    expect(view()).toMatchObject({ what: 'rules', missing: [], reason: undefined, repairs: 1 });
    await guard.check();
    expect(messages()).toEqual([]);
    expect(world.repaired).toBe(1);
  });

  test('and cannot be put back is told once, stays missing, is tried again, and told once more when it is back', async () => {
    const world: World = { missing: ['missing a'], refused: 'locked', repaired: 0 };
    const { guard, messages, view } = guarded(world);
    await guard.check();
    expect(messages()).toEqual([expect.stringMatching(/^error: firewall rules: missing \(missing a\) and cannot be put back: locked/)]);
    world.refused = 'still locked';
    await guard.check();
    expect(messages()).toEqual([]);
    expect(view()).toMatchObject({ missing: ['missing a'], reason: 'still locked', repairs: 0 });
    delete world.refused;
    await guard.check();
    expect(messages()).toEqual([expect.stringMatching(/^warn: firewall rules were missing and are put back/)]);
    expect(view()).toMatchObject({ missing: [], reason: undefined, repairs: 1 });
  });

  test('and put back by somebody else in the end: one line', async () => {
    const world: World = { missing: ['missing a'], refused: 'locked', repaired: 0 };
    const { guard, messages, view } = guarded(world);
    await guard.check();
    messages();
    world.missing = [];
    await guard.check();
    expect(messages()).toEqual(['info: firewall rules: all there again']);
    expect(view()).toMatchObject({ missing: [], reason: undefined, repairs: 0 });
  });

  test('again right after it was put back: that is a failure, not a repair', async () => {
    const world: World = { missing: ['missing a'], repaired: 0 };
    const { guard, messages, view } = guarded(world);
    Object.defineProperty(world, 'missing', { get: () => ['missing a'], set: () => {} });
    await guard.check();
    expect(messages()).toEqual([expect.stringMatching(/^error: .*missing again at once/)]);
    expect(view()).toMatchObject({ missing: ['missing a'], repairs: 0 });
  });
});

test('one look in vain is told, and as of the second nothing is trusted; a third says nothing new; one that succeeds ends it', async () => {
  const world: World = { missing: [], blind: 'iptables not found', repaired: 0 };
  const { guard, messages, view } = guarded(world);
  await guard.check();
  expect(messages()).toEqual([expect.stringMatching(/^error: firewall rules: cannot be verified: iptables not found/)]);
  expect(view()?.missing).toEqual([]);
  await guard.check();
  await guard.check();
  expect(messages()).toEqual([]);
  expect(view()?.missing).toEqual(['cannot be verified']);
  delete world.blind;
  await guard.check();
  expect(messages()).toEqual(['info: firewall rules: all there again']);
  expect(view()?.missing).toEqual([]);
});

test('once it was stopped it neither looks nor repairs', async () => {
  const world: World = { missing: ['missing a'], repaired: 0 };
  const { guard, messages } = guarded(world);
  guard.start();
  await guard.stop();
  await guard.check();
  expect(messages()).toEqual([]);
  expect(world.repaired).toBe(0);
});

test('what was put there just now is looked at five seconds later, all else at once', async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const looks: string[] = [];
  const state = (what: string) => {
    const verify = async () => {
      looks.push(what);
      return [];
    };
    return { what, name: what, usually: '', verify, repair: async () => {} };
  };
  const states = [{ ...state('rules'), fresh: true as const }, state('ports')];
  const log = createLogger({ stream: new Writable(), pretty: false, level: 'silent' });
  const guard = new Guard({ states, log, inTurn: (work) => work() });
  guard.start();
  await vi.advanceTimersByTimeAsync(4_900);
  expect(looks).toEqual(['ports']);
  await vi.advanceTimersByTimeAsync(200);
  expect(looks).toEqual(['ports', 'rules', 'ports']);
  await guard.stop();
});
