/** `systemctl restart` is a takeover: with a real systemd, which ends the unit's main process before it starts the next one. */
import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Balancer, configuration, LB4, SLOW, STATS_PORT } from '../lab/balancer.ts';
import type { LoadReport } from '../lab/client.ts';
import { holdConnections, othersLiveOn, report } from '../lab/hold.ts';
import { Systemd, whyNoSystemd } from '../lab/systemd.ts';
import { ECHO, HTTP, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { NOTHING, traces } from '../lab/traces.ts';
import { PATIENCE, waitUntil, within } from '../lab/wait.ts';

const HELD = 20;
const RATE = 100;
const REQUESTS = 6000;

const lacking = whyNoSystemd();
if (lacking !== undefined) process.stdout.write(`systemd: ${lacking}: its restarts are not tried\n`);

/** That of docs/operations.md, with its output in a file. */
function unitOf(flags: string, log: string): string {
  const [, unit = ''] =
    /```ini\n(\[Service\][^`]*)```/.exec(readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8')) ?? [];
  const own = unit.replace(/ExecStart=.*/, `ExecStart=${LB4}-service ${flags}`);
  return `[Unit]\nDefaultDependencies=no\n${own}StandardOutput=append:${log}\nStandardError=append:${log}\n`;
}

const frontends = {
  http: { listen: `${VIP}:${HTTP}`, servers: [`${serverAddress(0)}:${HTTP}`], backend: SLOW },
  echo: { listen: `${VIP}:${ECHO}`, servers: [`${serverAddress(0)}:${ECHO}`], backend: SLOW },
};
const textOf = (more = '') => configuration({ frontends, more: `[proxy]\ngrace_period = 600\n${more}` });

test.skipIf(lacking !== undefined).each(['proxy', 'passthrough'] as const)('%s: a unit is restarted, and stopped', async (mode) => {
  await using lab = new Topology({ servers: 1 });
  await lab.startBackends();
  const { client, balancer: host, directory } = lab;
  const [file, log] = [`${directory}/lb4.toml`, `${directory}/log`];
  writeFileSync(file, textOf());
  await using systemd = await Systemd.start(host, unitOf(`${mode === 'proxy' ? '' : '--passthrough'} --config=${file}`, log));
  const balancer = new Balancer(host, systemd.running, `http://127.0.0.1:${STATS_PORT}/stats`);
  const logged = (text: string) => readFileSync(log, 'utf8').split(text).length - 1;
  const hold = await holdConnections(client, HELD, `${VIP}:${ECHO}`);
  const load = client.program('client', 'load', `${RATE}`, `http://${VIP}/`, `${PATIENCE}`, `${client.ports(REQUESTS)}`);
  await load.line(/"answers":[1-9]/);

  const before = await balancer.stats();
  expect(await systemd.control('restart', 'lb4')).toMatchObject({ code: 0, stderr: '' });
  expect((await balancer.stats()).total_connections).toBeGreaterThanOrEqual(before.total_connections);
  // Ready is told first: systemd would take the end of the old one for the unit's.
  const handedOver = (times: number) =>
    waitUntil(() => logged('"msg":"handed over"') === times, { what: `the log to say ${times} times that it handed over` });
  await handedOver(1);
  expect(logged('left behind by a restart')).toBe(1);
  expect(await othersLiveOn(hold)).toEqual([]);
  if (mode === 'proxy') {
    // With a file that cannot be taken the unit has failed, and whom it left behind serves until the next one starts.
    writeFileSync(file, 'nonsense');
    expect(await systemd.control('restart', 'lb4')).toMatchObject({ code: 1 });
    expect(await othersLiveOn(hold)).toEqual([]);
    writeFileSync(file, textOf());
    // systemd tries by itself, too (`Restart=`), perhaps just now with the file as it was.
    const starts = async () => {
      await systemd.control('reset-failed', 'lb4');
      return (await systemd.control('start', 'lb4')).code === 0;
    };
    await waitUntil(starts, { what: 'the unit to start again' });
    await handedOver(2);
  }
  const said = load.nextLine(/"answers"/);
  load.end();
  await within(load.exited, 2 * PATIENCE, 'the end of the requests');
  await said;
  const { failed, sent, servers } = JSON.parse(load.lines.at(-1) ?? '') as LoadReport;
  expect([failed, Object.values(servers).reduce((sum, { answers }) => sum + answers, 0)]).toEqual([0, sent]);
  expect((await report(hold)).filter(({ ended }) => ended !== undefined)).toEqual([]);
  hold.end();
  await within(hold.exited, 2 * PATIENCE, 'the end of the connections');
  const all = HELD + sent;
  expect((await balancer.settled('all of it', (stats) => stats.total_connections >= all)).total_connections).toBe(all);

  if (mode === 'passthrough') {
    // A table that the next one cannot go on with: an ordinary start.
    writeFileSync(file, textOf('[passthrough]\nworkers = 2\n'));
    expect(await systemd.control('restart', 'lb4')).toMatchObject({ code: 0, stderr: '' });
    expect([logged('an ordinary start'), logged('"msg":"handed over"')]).toEqual([1, 1]);
    expect((await balancer.stats()).lb4.workers).toHaveLength(2);
  }
  expect(await systemd.control('stop', 'lb4')).toMatchObject({ code: 0, stderr: '' });
  expect(await systemd.control('show', '--property=Result', '--value', 'lb4')).toMatchObject({ stdout: 'success\n' });
  const { rules, reserved, kept } = traces(host);
  expect({ rules, reserved, kept, processes: [] }).toEqual(NOTHING);
});
