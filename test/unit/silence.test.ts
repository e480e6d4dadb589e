/** Who passes its health checks and answers nobody, by counters alone. */
import { expect, test } from 'vitest';
import { AGAIN_MS, FLOWS_PATIENCE_MS, type Observed, PATIENCE_MS, Silence } from '../../src/service/silence.ts';

/** Looks a second apart, each with what has changed of a server since; returns what was told, in order. */
function told(looks: readonly Partial<Observed>[], againMs = AGAIN_MS): string[] {
  const said: string[] = [];
  const reports = {
    fell: (keys: readonly string[]) => said.push(`fell ${keys.join(', ')}`),
    answers: (key: string) => said.push(`answers ${key}`),
    suspect: (key: string) => said.push(`suspect ${key}`),
  };
  const silence = new Silence(reports, againMs);
  let now = 0;
  let server: Observed = { key: 'a', up: true, due: 0, answered: 0, passedAt: 0 };
  for (const look of looks) {
    now += 1000;
    server = { ...server, ...look };
    silence.look([server], now);
  }
  return [...said, ...(silence.isSilent('a') ? ['silent'] : [])];
}

const later = (passedAt?: number): Partial<Observed>[] => Array.from({ length: PATIENCE_MS / 1000 }, () => (passedAt ? { passedAt } : {}));

test.each<[string, Partial<Observed>[], string[]]>([
  ['three connections, no answer, and a check that passed since', [{}, { due: 3 }, ...later(2500)], ['suspect a', 'fell a', 'silent']],
  ['told once, however long it lasts', [{}, { due: 3 }, ...later(2500), { due: 9 }, { due: 30 }], ['suspect a', 'fell a', 'silent']],
  ['two connections say nothing', [{}, { due: 2 }, ...later(2500)], []],
  ['nor do three that are just under way', [{}, { due: 3 }, { passedAt: 2500 }, { answered: 1 }], ['suspect a']],
  ['an idle server is not silent', [{}, {}, {}, ...later(2500)], []],
  ['a slow one neither, that answers one of many', [{}, { due: 9, answered: 1 }, { due: 20, answered: 2 }, { due: 99, answered: 3 }], []],
  ['no check has passed since: it may be dead', [{}, { due: 3 }, ...later(), {}], ['suspect a']],
  ['its checks have found it down', [{}, { due: 3 }, { up: false }, ...later(5000)], ['suspect a']],
  ['an answer is the recovery', [{}, { due: 3 }, ...later(2500), { answered: 1 }], ['suspect a', 'fell a', 'answers a']],
  ['its checks tell of its death: nobody answers', [{}, { due: 3 }, ...later(2500), { up: false, answered: 1 }], ['suspect a', 'fell a']],
  [
    'and it may fall silent again, which is told once it has lasted',
    [{}, { due: 3 }, ...later(2500), { answered: 1 }, { due: 6 }, ...later(7500), ...Array.from({ length: AGAIN_MS / 1000 }, () => ({}))],
    ['suspect a', 'fell a', 'answers a', 'suspect a', 'fell a', 'silent'],
  ],
  [
    'to and fro, as a stranger can have it, is told once; what it is can be asked',
    [{}, ...[3, 6, 9].flatMap((due) => [{ due }, ...later(due * 2000), { answered: due }]), { due: 12 }, ...later(30_000)],
    ['suspect a', 'fell a', 'answers a', 'suspect a', 'suspect a', 'suspect a', 'silent'],
  ],
  ['another server under its name begins anew', [{ due: 50, answered: 50 }, { due: 0, answered: 0 }, { due: 2 }, ...later(5000)], []],
  ['what was open before the first look counts for nothing', [{ due: 7 }, { due: 8 }, ...later(5000)], []],
])('%s', (_name, looks, said) => expect(told(looks)).toEqual(said));

test('where answers are seen, each time is told', () => {
  const looks = [{}, ...[3, 6].flatMap((due) => [{ due }, ...later(due * 2000), { answered: due }])];
  expect(told(looks, 0)).toEqual(['suspect a', 'fell a', 'answers a', 'suspect a', 'fell a', 'answers a']);
});

/** Of datagrams: a server that has sent so many bytes, and whether something else shows that such a service answers. */
const datagrams = (heard = 0, isTwoWay = false): Partial<Observed> => ({ datagrams: { heard, isTwoWay } });
const muchLater = (passedAt: number): Partial<Observed>[] => Array.from({ length: FLOWS_PATIENCE_MS / 1000 }, () => ({ passedAt }));
const idle = (seconds: number): Partial<Observed>[] => Array.from({ length: seconds }, () => ({}));
const FELL = ['suspect a', 'fell a', 'silent'];

test.each<[string, Partial<Observed>[], string[]]>([
  ['syslog', [datagrams(), { due: 1000 }, ...muchLater(2500)], []],
  ['a service whose others answer, or its checks', [datagrams(0, true), { due: 16 }, ...muchLater(2500)], FELL],
  [
    'sixteen over a night, by strangers',
    [datagrams(0, true), ...Array.from({ length: 16 }, (_, i) => [{ due: i + 1 }, ...idle(60)]).flat(), { passedAt: 1e6 }, ...idle(20)],
    [],
  ],
  [
    'sixteen within five minutes',
    [datagrams(0, true), ...Array.from({ length: 16 }, (_, i) => [{ due: i + 1 }, ...idle(15)]).flat(), ...muchLater(3e5)],
    FELL,
  ],
  ['as many as a scan', [datagrams(0, true), { due: 15 }, ...muchLater(2500)], []],
  ['one that has answered nearly all', [datagrams(), { due: 9, answered: 8 }, { due: 25 }, ...muchLater(3500)], FELL],
  ['one that has answered few of many', [datagrams(), { due: 100, answered: 40 }, { due: 200 }, ...muchLater(3500)], []],
  ['one that has answered too few to tell', [datagrams(), { due: 7, answered: 7 }, { due: 200 }, ...muchLater(3500)], []],
  [
    'something comes from it by flows of old',
    [datagrams(0, true), { due: 16 }, ...muchLater(2500).map((look, i) => ({ ...look, ...datagrams(i + 1, true) }))],
    ['suspect a'],
  ],
  [
    'it is slow: what comes is the recovery',
    [datagrams(0, true), { due: 16 }, ...muchLater(2500), datagrams(9, true)],
    ['suspect a', 'fell a', 'answers a'],
  ],
])('datagrams: %s', (_name, looks, said) => expect(told(looks)).toEqual(said));

test('many that fall silent at once are told in one go, and who leaves is forgotten', () => {
  const said: (readonly string[])[] = [];
  const silence = new Silence({ fell: (keys) => said.push(keys), answers: () => {}, suspect: () => {} }, AGAIN_MS);
  const all = (due: number, passedAt: number) => ['a', 'b', 'c'].map((key): Observed => ({ key, up: true, due, answered: 0, passedAt }));
  silence.look(all(0, 0), 0);
  silence.look(all(5, 0), 1000);
  silence.look(all(5, 1500), 1000 + PATIENCE_MS);
  expect(said).toEqual([['a', 'b', 'c']]);
  silence.look([], 9000);
  expect(silence.isSilent('a')).toBe(false);
});
