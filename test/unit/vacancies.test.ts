/** What is said of backends without a server: once, and once when one is there again. */
import { expect, test } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import type { Logger } from '../../src/log.ts';
import { Members } from '../../src/service/members.ts';
import { makePlan, type ServerStatus } from '../../src/service/plan.ts';
import { Vacancies } from '../../src/service/vacancies.ts';

const LEFT = 'warn app: no server of this backend is left: its clients are refused';
const AGAIN = 'info app: this backend has a server again';

const FILE = `[frontends.web]
listen_addr = "192.0.2.1:80"
backend = "app"
[backends.app.servers]
a = { addr = "10.0.0.1:80" }
b = { addr = "10.0.0.2:80" }
`;

/** Follows plans of which servers are down, and returns what was said of each. */
function world() {
  const said: string[] = [];
  const note = (level: string) => (fields: { backend: string }, text: string) => said.push(`${level} ${fields.backend}: ${text}`);
  const vacancies = new Vacancies({ warn: note('warn'), info: note('info') } as unknown as Logger);
  let members: Members | undefined;
  return (file: string, down: string): string[] => {
    const { config } = parseConfig(file, 'test.toml');
    if (members === undefined) members = new Members(config);
    else members.enrol(config);
    const isDown = (key: string) => [...down].some((name) => key.includes(`/ ${name} /`));
    const status: ServerStatus = { state: (key) => (isDown(key) ? 'down' : 'up'), isSpare: () => false, share: () => 1 };
    vacancies.follow(makePlan(config, 'passthrough', members, status, undefined));
    return said.splice(0);
  };
}

test('once when the last server goes, once when one is there again', () => {
  const follow = world();
  const downs = ['', 'a', 'ab', 'ab', 'b', '', 'ab'];
  expect(downs.map((down) => follow(FILE, down))).toEqual([[], [], [LEFT], [], [AGAIN], [], [LEFT]]);
});

test('weights of 0 are nobody’s, either; a backend that leaves the file is no more', () => {
  const follow = world();
  const idle = FILE.replaceAll('" }', '", weight = 0 }');
  expect([follow(FILE, ''), follow(idle, '')]).toEqual([[], [LEFT]]);
  expect(follow(FILE.replaceAll('app', 'other'), '')).toEqual([]);
});
