/** What a check by datagram makes of silence after "port unreachable", which a host says seldom. Time is vitest's here: nothing waits. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Check, CheckResult, Target } from '../../src/health/check.ts';
import { Turns } from '../../src/health/turns.ts';
import { checker, target } from '../lab/health-lab.ts';

beforeEach(() => vi.useFakeTimers({ now: 0, toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] }));
afterEach(() => vi.useRealTimers());

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const TIMEOUT_MS = 3000;
const SILENT: CheckResult = { outcome: 'pass', reason: 'silent', isSilent: true };
const REFUSED: CheckResult = { outcome: 'fail', reason: 'port unreachable', refusals: 3 };
const datagrams = (id: string, more: Partial<Target> = {}) =>
  target(53, { id, intervalMs: 5000, timeoutMs: TIMEOUT_MS, check: { type: 'udp', send: Buffer.alloc(0), expect: undefined }, ...more });

/** A host as Linux is (inet_peer_xrlim_allow): "port unreachable" once a second, six times after a rest, of all its ports together. */
class Host {
  #tokens = 6;
  #at = performance.now();
  readonly alive = new Set<string>();
  readonly starts = new Map<string, number[]>();

  readonly check = ({ id }: Target): Check => ({ run: () => this.#run(id) });

  async #run(id: string): Promise<CheckResult> {
    this.starts.set(id, [...(this.starts.get(id) ?? []), performance.now()]);
    let refusals = 0;
    // Three sendings, as udp.ts has them; after the first refusal two more are asked for, at once.
    for (let sent = 0; sent < 3 && !this.alive.has(id); sent++) {
      while (refusals < 3 && this.#refuses()) refusals++;
      if (refusals === 3) return REFUSED;
      await sleep(TIMEOUT_MS / 3);
    }
    if (this.alive.has(id)) await sleep(TIMEOUT_MS);
    return refusals === 0 ? SILENT : { outcome: 'unknown', reason: 'once', isSilent: true, refusals };
  }

  #refuses(): boolean {
    this.#tokens = Math.min(6, this.#tokens + (performance.now() - this.#at) / 1000);
    this.#at = performance.now();
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}

test.each([3, 8])('%i dead ports of one host go down and stay so, a silent one beside them is up', async (dead) => {
  const host = new Host();
  host.alive.add('syslog');
  const { health, told, warn } = checker(host.check);
  const ids = Array.from({ length: dead }, (_, i) => `dead${i}`);
  health.set([...ids, 'syslog'].map((id) => datagrams(id)));
  await pass(600_000);
  expect(told().toSorted()).toEqual([...ids.map((id) => `${id} unknown>down`), 'syslog unknown>up']);
  expect(warn).not.toHaveBeenCalled();
  // Each has its turn in a time that those of all take.
  const turns = host.starts.get('syslog')?.slice(2) ?? [];
  for (const [i, at] of turns.slice(1).entries()) expect(at - turns[i]).toBeLessThan(5000 + (dead + 1) * 3500);
});

test('one that is there again and says nothing is up after three silent checks; where checks were in turn', async () => {
  const host = new Host();
  const { health, told } = checker(host.check);
  health.set(['a', 'b', 'c'].map((id) => datagrams(id)));
  await pass(60_000);
  host.alive.add('b');
  const before = host.starts.get('b')?.length ?? 0;
  for (let i = 0; i < 120 && health.state('b') !== 'up'; i++) await pass(1000);
  expect(host.starts.get('b')?.length).toBeLessThanOrEqual(before + 4);
  expect(told().filter((change) => change.endsWith('>up'))).toEqual(['b down>up']);
});

/** A checker whose one server answers as the last of `results` says; what has come from it is `heard`. */
function scripted(results: readonly CheckResult[], heard: () => number = () => 0) {
  let nth = 0;
  const kit = checker(() => ({ run: async () => results[Math.min(nth++, results.length - 1)] }), heard);
  kit.health.set([datagrams('a')]);
  return kit;
}

const ANSWERED: CheckResult = { outcome: 'pass', reason: 'answered' };

test.each<[string, CheckResult[], number, string[]]>([
  ['an answer after a refusal is believed at once', [REFUSED, ANSWERED], 6, ['a unknown>down', 'a down>up']],
  ['two silent checks are not', [REFUSED, SILENT, SILENT, REFUSED, SILENT, SILENT, REFUSED], 40, ['a unknown>down']],
  ['three are', [REFUSED, SILENT], 20, ['a unknown>down', 'a down>up']],
  ['one who answered and is silent is believed where nobody was refused', [ANSWERED, SILENT], 20, ['a unknown>up']],
])('%s', async (_, results, seconds, said) => {
  const { health, told, warn } = scripted(results);
  await pass(seconds * 1000);
  expect(told()).toEqual(said);
  expect(health.describe('a')?.unmade).toBe(0);
  expect(warn).not.toHaveBeenCalled();
});

test('a silent check during which the server sends something to others is believed', async () => {
  let heard = 0;
  const { told } = scripted([REFUSED, SILENT], () => heard++);
  await pass(6000);
  expect(told()).toEqual(['a unknown>down', 'a down>up']);
});

test('who waits for a turn ends with its watch', async () => {
  const host = new Host();
  const { health } = checker(host.check);
  health.set(['a', 'b', 'c', 'd'].map((id) => datagrams(id)));
  await pass(12_000);
  health.stop();
  const before = [...host.starts.values()].flat().length;
  await pass(60_000);
  expect([...host.starts.values()].flat().length).toBe(before);
  expect(vi.getTimerCount()).toBe(0);
});

const GONE: CheckResult = { outcome: 'fail', reason: 'no answer, nor to ARP', isGone: true };

test('a host that is gone takes no turns: all its ports are down soon after one has found out, however many there are', async () => {
  const host = new Host();
  const silent = Array.from({ length: 40 }, (_, i) => `s${i}`);
  for (const id of silent) host.alive.add(id);
  let isGone = false;
  const check = (of: Target): Check => ({
    run: async (signal) => {
      if (!isGone) return host.check(of).run(signal);
      await sleep(TIMEOUT_MS);
      return GONE;
    },
  });
  const { health } = checker(check);
  health.set(['dead', ...silent].map((id) => datagrams(id)));
  await pass(300_000);
  expect(silent.filter((id) => health.state(id) !== 'up')).toEqual([]);
  isGone = true;
  // Whose turn it is finds out; then the others, and each once more where an interval lies between.
  await pass(2 * TIMEOUT_MS + 5000 + 3500);
  expect(silent.filter((id) => health.state(id) !== 'down')).toEqual([]);
});

test('whoever leaves the line gives his turn to the next', async () => {
  const turns = new Turns();
  const host = datagrams('a');
  turns.refused(host, 1);
  const served: string[] = [];
  const stops = ['a', 'b', 'c'].map((id) => {
    const stop = new AbortController();
    void turns.wait(host, 3, stop.signal).then(() => served.push(id));
    return stop;
  });
  await pass(1000);
  stops[0].abort();
  stops[1].abort();
  await pass(200);
  expect(served).toEqual(['a', 'b', 'c']);
  expect(vi.getTimerCount()).toBe(0);
});
