/** What operators look at: `lb4 top` on a terminal, and `lb4 trace` beside where connections really go. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { isPacketMode } from '../../src/config/modes.ts';
import type { Trace } from '../../src/control/orders.ts';
import { LB4 } from '../lab/balancer.ts';
import { CLIENT as DSR_CLIENT } from '../lab/dsr-topology.ts';
import { holdConnections } from '../lab/hold.ts';
import { MODES } from '../lab/live.ts';
import { Operated } from '../lab/operated.ts';
import { Tmux } from '../lab/tmux.ts';
import { clientAddress, ECHO } from '../lab/topology.ts';
import { waitUntil } from '../lab/wait.ts';

/** What the terminal does by itself when a program leaves it as it was. */
const KEPT = "stty -a | grep -oE -- '-?(icanon|echo)\\b' | tr '\\n' ' '";

test('top follows, sorts, filters and fits, and leaves the terminal as it was', async () => {
  const world = await Operated.start('passthrough');
  await using live = world.live;
  const held = await holdConnections(live.lab.client, 8, `${live.vip}:${ECHO}`);
  const pid = join(live.lab.directory, 'top.pid');
  const top = `${LB4} top --control ${world.socket}`;
  const ends = join(live.lab.directory, 'top.ends');
  const note = (how: string) => `{ echo "${how}: $?"; ${KEPT}; echo; } >>${ends}`;
  const script = `${top}; ${note('by a key')}; (echo $BASHPID >${pid}; exec ${top}); ${note('by a signal')}; echo end >>${ends}`;
  await using terminal = await Tmux.start(live.lab, live.lab.balancer, script);

  const rowsOf = (lines: readonly string[]) => lines.filter((line) => /^tcp +(http|echo)-out\/server\d /.test(line));
  // To its end: a terminal takes a screen in pieces.
  const isWhole = (lines: readonly string[]) =>
    /passthrough, up .*servers: 4 up$/.test(lines[0] ?? '') && (lines.at(-1) ?? '').endsWith('q quit');
  const first = await terminal.shows(isWhole, 'four servers that are up');
  expect(rowsOf(first)).toHaveLength(4);
  expect(first.at(-1)).toMatch(/^4 servers .*q quit$/);
  // Connections that are busy: somebody's rates are not 0.
  await terminal.shows(/echo-out\/server\d .* ▲ up +1 +[1-9]\d* +\d+ +[1-9][\d.]*[KMG]? /);
  expect(await terminal.tells('#{alternate_on} #{cursor_flag}')).toBe('1 0');

  expect((await world.run('set', 'server', 'http-out/server2', 'state', 'drain')).code).toBe(0);
  await terminal.shows(/http-out\/server2 .*◐ drain +0 .*drain by control/);
  await terminal.type('Right', 'Right', 'r');
  await terminal.shows(
    (lines) => lines.join().includes('Server↓') && rowsOf(lines)[0]?.includes('http-out/server2') === true,
    'the last name first',
  );
  await terminal.type('/', 'echo up');
  await terminal.shows(/\/echo up_ +\(2 of 4 servers/);
  await terminal.type('Enter');
  await terminal.shows(
    (lines) => !lines.join().includes('http-out/') && /^2 of 4 servers +filter: echo up/.test(lines.at(-1) ?? ''),
    'the filter',
  );
  await terminal.resize(50, 8);
  const small = await terminal.shows((lines) => lines.length === 8 && lines[7]?.startsWith('2 of 4 servers') === true, 'a small table');
  expect(small.every((line) => line.length <= 50)).toBe(true);
  await terminal.resize(140, 24);
  await terminal.type('q');
  // Only then there is another one.
  await waitUntil(() => existsSync(pid), { what: 'the second top' });
  await terminal.shows(/^lb4 .*servers: 3 up, 1 drain/);
  process.kill(Number(readFileSync(pid, 'utf8')), 'SIGTERM');
  await waitUntil(() => readFileSync(ends, 'utf8').endsWith('end\n'), { what: 'its end' });
  expect(readFileSync(ends, 'utf8')).toBe('by a key: 0\nicanon echo \nby a signal: 143\nicanon echo \nend\n');
  expect(await terminal.tells('#{alternate_on} #{cursor_flag}')).toBe('0 1');

  const once = await world.run('top');
  expect(once).toMatchObject({
    code: 0,
    stderr: '',
    stdout: expect.stringMatching(/^lb4 .*\n.* connections, [^]*\n\nProt +Server/) as string,
  });
  expect(once.stdout).not.toContain('\u001b');
  held.end();
  await world.end();
});

test.each(MODES)('%s: trace says where a connection goes, before it is there and while it is', async (mode) => {
  const world = await Operated.start(mode, { backend: 'balance = "maglev"' });
  await using live = world.live;
  const client = mode === 'dsr' ? DSR_CLIENT : clientAddress(0);
  const trace = async (from: string, frontend: string): Promise<Trace> => {
    const { traces } = await world.get<{ traces: [Trace] }>(`/v1/trace?client=${from}&frontend=${frontend}`);
    return traces[0];
  };
  const answering = async (port: number) => {
    const { stdout } = await live.lab.client.run('curl', '-sS', '--max-time', '60', '--local-port', String(port), `http://${live.vip}/`);
    return `http-out/${stdout.trim()}`;
  };

  const ports = Array.from({ length: 6 }, (_, i) => 40_000 + 7 * i);
  const foreseen: (string | null)[] = [];
  for (const port of ports) foreseen.push((await trace(`${client}:${port}`, 'http')).server);
  expect(new Set(foreseen)).toEqual(new Set(['http-out/server1', 'http-out/server2']));
  for (const [i, port] of ports.entries()) expect(await answering(port)).toBe(foreseen[i]);

  const held = await holdConnections(live.lab.client, 1, `${live.vip}:${ECHO}`);
  const flows = await world.get<{ flows: { client: string; server: string }[] }>('/v1/flows?frontend=echo');
  const [flow] = flows.flows;
  expect(await trace(flow?.client ?? '', 'echo')).toMatchObject({ outcome: 'flow', server: flow?.server, flow: { state: 'established' } });

  if (isPacketMode(mode)) {
    await world.reload({ backend: 'balance = "roundrobin"\naffinity = 300' });
    const kept = await answering(42_000);
    expect(await trace(`${client}:42007`, 'http')).toMatchObject({ outcome: 'goes', server: kept, affinity: { server: kept } });
    expect(await answering(42_007)).toBe(kept);
    await world.reload({ backend: 'balance = "maglev"' });
  }

  const [left, gone] = [foreseen[0], foreseen[0] === 'http-out/server1' ? 'http-out/server2' : 'http-out/server1'];
  expect((await world.run('set', 'server', left ?? '', 'state', 'drain')).code).toBe(0);
  const said = await trace(`${client}:41000`, 'http');
  expect(said).toMatchObject({ outcome: 'goes', server: gone });
  expect(said.servers.find(({ server }) => server === left)).toMatchObject({ eligible: false, state: 'drain' });
  expect(await answering(41_000)).toBe(gone);
  expect((await world.run('trace', `${client}:41000`, 'http')).stdout).toContain(`: ${gone}, `);
  expect((await world.run('trace', `${client}:41000`, 'htpt')).stderr).toContain('did you mean "http"?');
  held.end();
  await world.end();
});
