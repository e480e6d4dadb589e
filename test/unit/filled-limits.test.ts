/** When SYNs to a frontend whose limit is full of handshakes must come twice, and when not any more. */
import { expect, test } from 'vitest';
import { FilledLimits } from '../../src/forward/filled-limits.ts';
import { SynGuard } from '../../src/forward/syn-guard.ts';

const WEB = 5;
const OTHERS = 6;

/** A guard whose frontend WEB is filled at `now()`: a hundred handshakes that nobody completes. */
function filledGuard() {
  const ledger = {
    completed: () => 0,
    halfOpen: (frontend: number) => (frontend === WEB ? 100 : 0),
    generation: () => ledger.stamp << 16,
    stamp: 1,
  };
  const filled = new FilledLimits(ledger);
  const guard = new SynGuard({ from: 100_000, key: [0x1b873593, 0x05ebca6b, 0x42b2ae35, 0x27d4eb2f], filled });
  let time = 10_000;
  /** @param missed SYNs that the kernel drops meanwhile every 100 ms */
  const wait = (ms: number, missed = 0) => {
    for (const until = time + ms; time < until; ) {
      guard.missed(missed);
      guard.tick(missed, 0, (time += 100));
    }
  };
  guard.tick(0, 0, time);
  guard.refused(WEB, time);
  wait(2500);
  return { ledger, filled, guard, wait, ask: (port: number) => guard.takes(WEB, 1, 2, port, 3) };
}

test('made-up SYNs keep it filled; it is over where each client comes again, whatever becomes of those let through', () => {
  const { filled, guard, wait, ask } = filledGuard();
  expect([filled.takeChanges(), guard.isFlooded]).toEqual([[{ frontend: WEB, isFilled: true }], false]);
  expect(guard.takes(OTHERS, 1, 2, 3, 4)).toBe(true);
  for (let round = 0, port = 1; round < 10; round++) {
    for (let i = 0; i < 200; i++) ask(port++);
    wait(1000);
  }
  expect(filled.isFilled(WEB)).toBe(true);
  // Each once more a second later, and then neither opened nor refused for want of room: the source's own limit, say.
  let taken = 0;
  for (let round = 0; round < 12; round++) {
    const first = 10_000 + round * 200;
    for (let i = 0; i < 200; i++) {
      ask(first + i);
      if (round > 0 && ask(first - 200 + i)) taken++;
    }
    wait(1000);
  }
  expect([taken, filled.isFilled(WEB)]).toEqual([11 * 200, false]);
  expect(filled.takeChanges()).toEqual([{ frontend: WEB, isFilled: false }]);
});

test('an index that a reload gives to another frontend begins anew', () => {
  const { ledger, filled, guard, wait, ask } = filledGuard();
  expect(filled.isFilled(WEB)).toBe(true);
  ledger.stamp++;
  wait(100);
  expect([filled.isFilled(WEB), filled.isAny, ask(1)]).toEqual([false, false, true]);
  // The other one may be filled as well.
  guard.refused(WEB, 20_000);
  wait(12_000);
  expect(filled.isFilled(WEB)).toBe(false);
});

test('what the kernel drops in a flood of all is not taken for calm', () => {
  const { filled, guard, wait } = filledGuard();
  wait(12_000, 100_000);
  expect([guard.isFlooded, filled.isFilled(WEB)]).toEqual([true, true]);
  // That flood is over first: what comes to this frontend is seen again only then.
  wait(6000);
  expect([guard.isFlooded, filled.isFilled(WEB)]).toEqual([false, true]);
  wait(8000);
  expect(filled.isFilled(WEB)).toBe(false);
});
