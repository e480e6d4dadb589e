/** The firewall rules follow the places of a plan, and nothing else of it. */
import { beforeEach, expect, test, vi } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import { renderBalancerScript } from '../../src/rules/render.ts';
import { runRules } from '../../src/rules/run.ts';
import type { Form, RulesInput } from '../../src/rules/types.ts';
import { Firewall, type KeptReturns } from '../../src/service/firewall.ts';
import { Members } from '../../src/service/members.ts';
import { makePlan, type Plan, type ServerStatus } from '../../src/service/plan.ts';

vi.mock('../../src/rules/run.ts', () => ({ runRules: vi.fn(async () => ({ output: '', complete: true, warnings: [] as string[] })) }));
vi.mock('../../src/rules/render.ts', () => ({ renderBalancerScript: vi.fn((input: unknown) => JSON.stringify(input)) }));

const WELL: ServerStatus = { state: () => 'up', isSpare: () => false, share: () => 1 };
const ILL: ServerStatus = { ...WELL, state: () => 'down' };

function plan(servers: readonly string[], status = WELL, listen = '192.0.2.1:80'): Plan {
  const lines = servers.map((addr, index) => `s${index} = { addr = "${addr}" }\n`).join('');
  const toml = `[frontends.web]\nlisten_addr = "${listen}"\nbackend = "app"\n[backends.app.servers]\n${lines}`;
  const { config } = parseConfig(toml, 'test.toml');
  return makePlan(config, 'passthrough', new Members(config), status, undefined);
}

const RAW: Form = { name: 'raw', why: 'no bridge' };
const INPUT: Form = { name: 'input', why: 'a bridge' };

/** On a host that needs the form `now.form`. */
function firewallOn(now: { form: Form } = { form: RAW }, kept?: KeptReturns): Firewall {
  return new Firewall('passthrough', { info: () => {}, warn: () => {} }, kept, () => now.form);
}

const A = '10.0.0.1:80';
const B = '10.0.0.2:80';
/** What sh was asked for, and the places it was told. */
const runs = () =>
  vi.mocked(runRules).mock.calls.map(([script, action]) => {
    const { form, frontends, returns } = JSON.parse(script) as RulesInput;
    return [
      ...(form?.name === 'input' ? ['input'] : []),
      action,
      ...frontends.map(({ address }) => address),
      ...returns.map(({ server }) => server),
    ].join(' ');
  });

beforeEach(() => {
  vi.clearAllMocks();
});

test('a health change, or servers in another order, renders nothing and runs nothing', async () => {
  const firewall = firewallOn();
  await firewall.install(plan([A, B]));
  for (const next of [plan([A, B], ILL), plan([A, B]), plan([B, A])]) {
    const putBack = await firewall.install(next);
    await putBack();
  }
  expect(runs()).toEqual(['install 192.0.2.1 10.0.0.1 10.0.0.2']);
  expect(vi.mocked(renderBalancerScript)).toHaveBeenCalledTimes(1);
});

test('other places are installed, and put back where the rest of the change fails', async () => {
  const firewall = firewallOn();
  await firewall.install(plan([A]));
  const putBack = await firewall.install(plan([B], WELL, '192.0.2.2:80'));
  await putBack();
  await firewall.install(plan([A]));
  await firewall.remove();
  expect(runs()).toEqual([
    'install 192.0.2.1 10.0.0.1',
    'install 192.0.2.2 10.0.0.2',
    'install 192.0.2.1 10.0.0.1',
    'remove 192.0.2.1 10.0.0.1',
  ]);
});

test('what is needed no more is taken away; where that fails nothing is thrown, and the guard is asked for what is wanted', async () => {
  const firewall = firewallOn();
  expect(firewall.lacks(plan([A]))).toBe(true);
  await firewall.install(plan([A, B]));
  expect([plan([A, B], ILL), plan([B]), plan([A], WELL, '192.0.2.2:80')].map((next) => firewall.lacks(next))).toEqual([false, false, true]);
  await firewall.prune(plan([A, B], ILL));
  vi.mocked(runRules).mockRejectedValueOnce(new Error('iptables is locked'));
  await firewall.prune(plan([B]));
  expect(firewall.lacks(plan([A]))).toBe(true);
  await firewall.states.find(({ what }) => what === 'rules')?.repair();
  expect(runs()).toEqual(['install 192.0.2.1 10.0.0.1 10.0.0.2', 'install 192.0.2.1 10.0.0.2', 'install 192.0.2.1 10.0.0.2']);
});

test('the ways back are written down before they are installed, and those of an lb4 that died stay while both ends are balanced', async () => {
  const written: string[] = [];
  const write = (keys: readonly string[]) => void written.push(`${keys.join(', ')} before ${runs().length + 1}`);
  const two =
    '[frontends.web]\nlisten_addr = "192.0.2.1:80"\nbackend = "app"\n[backends.app.servers]\na = { addr = "10.0.0.1:80" }\n' +
    '[frontends.old]\nlisten_addr = "192.0.2.2:80"\nbackend = "old"\n[backends.old.servers]\nb = { addr = "10.0.0.2:80" }\n';
  const { config } = parseConfig(two, 'test.toml');
  const moved = makePlan(config, 'passthrough', new Members(config), WELL, undefined);
  const last = ['tcp 10.0.0.2:80 192.0.2.1', 'tcp 10.0.0.9:80 192.0.2.1', 'tcp 10.0.0.2:80 192.0.2.9', '; rm -rf /'];
  const firewall = firewallOn(undefined, { last, write });
  await firewall.install(moved);
  const { returns } = JSON.parse(vi.mocked(runRules).mock.calls[0][0]) as RulesInput;
  expect(returns.map(({ server, serverPort, source }) => `${server}:${serverPort} ${source}`)).toEqual([
    '10.0.0.2:80 192.0.2.1',
    '10.0.0.1:80 192.0.2.1',
    '10.0.0.2:80 192.0.2.2',
  ]);
  await firewall.prune(plan([A]));
  expect(written).toEqual([
    'tcp 10.0.0.2:80 192.0.2.1, tcp 10.0.0.1:80 192.0.2.1, tcp 10.0.0.2:80 192.0.2.2 before 1',
    'tcp 10.0.0.1:80 192.0.2.1 before 2',
  ]);
});

test('answers to source addresses have their ways back, also to one of before while connections leave from it', async () => {
  const configOf = (addresses: string) => {
    const backend = `backends.app = { source_addrs = [${addresses}], servers.a = { addr = "${A}" } }`;
    return parseConfig(`frontends.web = { listen_addr = "192.0.2.1:80", backend = "app" }\n${backend}`, 'test.toml').config;
  };
  const [both, one] = ['"192.0.2.8", "192.0.2.9"', '"192.0.2.9"'].map(configOf);
  const members = new Members(both);
  const planOf = (config = one) => makePlan(config, 'passthrough', members, WELL, undefined);
  const firewall = firewallOn();
  await firewall.install(planOf(both));
  const stands = () => (JSON.parse(vi.mocked(runRules).mock.calls.at(-1)?.[0] ?? '') as RulesInput).returns.map(({ source }) => source);
  expect(stands()).toEqual(['192.0.2.8', '192.0.2.9']);
  members.enrol(one);
  expect(firewall.lacks(planOf())).toBe(false);
  await firewall.prune(planOf());
  expect(stands()).toEqual(['192.0.2.8', '192.0.2.9']);
  members.sources.expire(() => false);
  await firewall.prune(planOf());
  expect(stands()).toEqual(['192.0.2.9']);
});

test('what this host refuses is told once, and once more when it takes it', async () => {
  const told: string[] = [];
  const tell = (...[, text]: unknown[]) => void told.push(String(text));
  const firewall = new Firewall('passthrough', { info: tell, warn: tell }, undefined, () => RAW);
  const warnings = ['what lb4 sends is tracked: nft: Operation not supported'];
  for (const next of [[A], [B]]) {
    vi.mocked(runRules).mockResolvedValueOnce({ output: '', complete: true, warnings });
    await firewall.install(plan(next));
  }
  expect(told).toEqual([`firewall rules: ${warnings[0]}`]);
  await firewall.install(plan([A]));
  expect(told.slice(1)).toEqual([expect.stringMatching(/all there/)]);
});

test('what could not be installed is tried again', async () => {
  const firewall = firewallOn();
  await firewall.install(plan([A]));
  vi.mocked(runRules).mockRejectedValueOnce(new Error('iptables is locked'));
  await expect(firewall.install(plan([B]))).rejects.toThrow('locked');
  await firewall.install(plan([B]));
  expect(runs()).toEqual(['install 192.0.2.1 10.0.0.1', 'install 192.0.2.1 10.0.0.2', 'install 192.0.2.1 10.0.0.2']);
});

/** What the guard finds missing of it. */
const formOf = async ({ states }: Firewall) => states.find(({ what }) => what === 'rules_form')?.verify();

test('another form of the rules is followed when asked, not by plans, and tried again where it fails', async () => {
  const now = { form: RAW };
  const firewall = firewallOn(now);
  await firewall.follow();
  await firewall.install(plan([A]));
  now.form = INPUT;
  await firewall.install(plan([B]));
  vi.mocked(runRules).mockRejectedValueOnce(new Error('this kernel has no CT target'));
  await expect(firewall.follow()).rejects.toThrow('CT');
  expect(await formOf(firewall)).toEqual(['form input: a bridge']);
  await firewall.install(plan([A]));
  await firewall.follow();
  await firewall.follow();
  expect(await formOf(firewall)).toEqual([]);
  await firewall.install(plan([B]));
  expect(runs()).toEqual([
    'install 192.0.2.1 10.0.0.1',
    'install 192.0.2.1 10.0.0.2',
    'input install 192.0.2.1 10.0.0.2',
    'install 192.0.2.1 10.0.0.1',
    'input install 192.0.2.1 10.0.0.1',
    'input install 192.0.2.1 10.0.0.2',
  ]);
});
