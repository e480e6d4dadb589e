/** A frontend that nobody answers while its servers answer others, by counters alone. */
import { expect, test } from 'vitest';
import type { Frontend } from '../../src/config/model.ts';
import { FrontendSilence } from '../../src/service/frontend-silence.ts';
import type { Plan } from '../../src/service/plan.ts';
import { AGAIN_MS, type Observed, PATIENCE_MS } from '../../src/service/silence.ts';

const backend = { name: 'app', protocol: { name: 'tcp' } };
const frontend = (index: number, name: string) => ({
  index,
  frontend: { name, listen: { text: `192.0.2.${index + 1}:80` }, backend } as Frontend,
  draining: false,
});
const plan = {
  frontends: [frontend(0, 'first'), frontend(1, 'second')],
  backends: [{ backend, servers: [{ key: 'a' }, { key: 'b' }] }],
} as unknown as Plan;

interface Look {
  /** Of the second frontend; the first is answered throughout. */
  readonly due?: number;
  readonly answered?: number;
  readonly a?: Partial<Observed>;
  readonly b?: Partial<Observed>;
}

/** Looks a second apart, each with what has changed since; returns what was told. */
function told(looks: readonly Look[], silent: readonly string[] = []): string[] {
  const said: string[] = [];
  const say = (...[{ frontend }, text]: unknown[] & [{ frontend?: string }, string]) => said.push(`${frontend}: ${text}`);
  const silence = new FrontendSilence({ info: say, warn: say } as never, (key) => silent.includes(key), AGAIN_MS);
  let [due, answered] = [0, 0];
  let servers = ['a', 'b'].map((key): Observed => ({ key, up: true, due: 0, answered: 0, passedAt: 0 }));
  looks.forEach((look, index) => {
    ({ due = due, answered = answered } = look);
    servers = servers.map((server) => ({ ...server, answered: server.answered + 1, ...look[server.key as 'a' | 'b'] }));
    const counted = [
      { due: index, answered: index, heard: 0 },
      { due, answered, heard: 0 },
    ];
    silence.look(plan, servers, (which) => counted[which], (index + 1) * 1000);
  });
  return [...said, ...(silence.isSilent('second 192.0.2.2:80') ? ['silent'] : [])];
}

const passed = (at: number): Look[] => Array.from({ length: PATIENCE_MS / 1000 }, () => ({ a: { passedAt: at }, b: { passedAt: at } }));
const FELL = "second 192.0.2.2:80: a frontend's servers answer others, yet none of 3 connections or more to it";
const ANSWERS = 'second 192.0.2.2:80: a silent frontend answers again';

test.each<[string, Look[], string[]]>([
  ['none of its connections is answered, and all servers pass', [{}, { due: 3 }, ...passed(2500)], [FELL, 'silent']],
  ['told once', [{}, { due: 3 }, ...passed(2500), { due: 9 }, { due: 12 }], [FELL, 'silent']],
  ['an answer is the recovery', [{}, { due: 3 }, ...passed(2500), { answered: 1 }], [FELL, ANSWERS]],
  ['one of many is answered', [{}, { due: 3 }, { due: 9, answered: 1 }, ...passed(3500)], []],
  ['one server has not passed since: it may be that one, and dead', [{}, { due: 3 }, ...passed(2500).map(({ a = {} }) => ({ a }))], []],
  ['it was: those connections tell nothing of the rest', [{}, { due: 3 }, {}, { b: { up: false } }, ...passed(5000), ...passed(6000)], []],
  ['all are down', [{}, { due: 3, a: { up: false }, b: { up: false } }, ...passed(2500)], []],
])('%s', (_name, looks, said) => expect(told(looks)).toEqual(said));

test('where the servers are silent altogether, that is told of them alone', () => {
  expect(told([{}, { due: 3 }, ...passed(2500)], ['a', 'b'])).toEqual([]);
  expect(told([{}, { due: 3 }, ...passed(2500)], ['a'])).toEqual([FELL, 'silent']);
});

test('of datagrams, where its servers answer others', () => {
  const told: unknown[] = [];
  const silence = new FrontendSilence(
    { info: () => {}, warn: (_: unknown, text: unknown) => told.push(text) } as never,
    () => false,
    AGAIN_MS,
  );
  const look = (isTwoWay: boolean, due: number, now: number) => {
    const servers = ['a', 'b'].map(
      (key): Observed => ({ key, up: true, due: 9, answered: 9, passedAt: now, datagrams: { heard: now, isTwoWay } }),
    );
    silence.look(plan, servers, () => ({ due, answered: 0, heard: 0 }), now);
  };
  for (let now = 1; now < 30_000; now += 1000) look(false, now, now);
  expect(told).toEqual([]);
  for (let now = 30_000; now < 60_000; now += 1000) look(true, now, now);
  expect(told).toEqual(Array(2).fill("a frontend's servers answer others, yet none of 16 connections or more to it"));
});
