/** The connection log of a running lb4: real connections, ended in each of the ways that there are, in a file, and for a real syslog. */
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { native } from '../../src/io/native.ts';
import { startBalancer } from '../lab/balancer.ts';
import { holdConnections } from '../lab/hold.ts';
import { MODES } from '../lab/live.ts';
import { Operated } from '../lab/operated.ts';
import { ECHO, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { serveUdp, UdpClients } from '../lab/udp.ts';
import { waitUntil } from '../lab/wait.ts';

interface Line {
  readonly client: string;
  readonly frontend: string;
  readonly to: string;
  readonly server: string;
  readonly via: string;
  readonly address: string;
  readonly began: string | null;
  readonly seconds: number;
  readonly tx: number | null;
  readonly rx: number | null;
  readonly end: string;
}

/** Connects to ADDRESS PORT, hears who it is and its own five bytes, and resets the connection. */
const RESETS = `const [host, port] = process.argv.slice(1);
const socket = require('node:net').connect(port, host, () => socket.write('hello'));
let came = '';
socket.on('data', (bytes) => (came += bytes).endsWith('hello') && socket.resetAndDestroy());`;

/** `server1`, and what else the echo server says first, with the five bytes. */
const GREETED = 29;

const inFile = (path: string, more = '') => `[connection_log]\nto = "file"\nfile = "${path}"\nformat = "json"\n${more}\n`;

function linesIn(path: string): Line[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);
}

/** The bytes that were counted; those that were due, where what was sent again explains the rest. */
function counted(bytes: number | null, due: number, again: number): number | null {
  return bytes !== null && bytes >= due && bytes <= due + again ? due : bytes;
}

/** @param isWhole its beginning is known: a client that goes on with direct server return after a kill is taken up in mid-stream */
async function until(path: string, end: string, frontend: string, isWhole = true): Promise<Line> {
  const isMeant = (line: Line) => line.end === end && line.frontend === frontend && (line.began !== null) === isWhole;
  return waitUntil(() => linesIn(path).find(isMeant), {
    what: `a line of ${frontend} that ends ${end}, in ${path}`,
  });
}

describe.each(MODES)('%s', (mode) => {
  test('how connections end, rotation, a disk that is full, and syslog', async () => {
    const world = await Operated.start(mode);
    await using live = world.live;
    const { client, directory } = live.lab;
    const path = join(directory, 'connections.log');
    const get = async () => expect((await client.run('curl', '-sS', '--max-time', '60', `http://${live.vip}/`)).code).toBe(0);
    const quick = mode === 'proxy' ? { frontend: 'client_timeout = 1' } : {};
    const timeouts = mode === 'proxy' ? '' : '[passthrough.timeouts]\nestablished = 1\n';

    // One that began before the log did.
    const held = await holdConnections(client, 1, `${live.vip}:${ECHO}`);
    await world.reload({ more: inFile(path) });
    expect((await world.run('kill', 'flows', '--frontend', 'echo')).code).toBe(0);
    expect(await until(path, 'killed', 'echo', false)).toMatchObject({ began: null, seconds: null, to: `${live.vip}:${ECHO}` });
    held.end();
    expect(statSync(path).mode & 0o777).toBe(0o600);

    await get();
    const fin = await until(path, 'fin', 'http');
    expect(fin).toMatchObject({ to: `${live.vip}:80`, server: expect.stringMatching(/^http-out\/server[12]$/) as string });
    expect(fin.address).toBe(`${live.addresses[Number(fin.server.at(-1)) - 1]}:80`);
    expect(Date.parse(fin.began ?? '')).toBeGreaterThan(Date.now() - 120_000);
    expect(fin.tx).toBeGreaterThan(50);
    if (mode === 'dsr') expect(fin).toMatchObject({ rx: null, via: fin.client });
    else expect(fin.rx).toBeGreaterThan(50);
    if (mode !== 'dsr') expect(fin.via).not.toBe(fin.client);

    // Each time that they pass: where lb4 gets no processor for a moment both sides send again.
    const again = () => [client, ...live.lab.servers].reduce((sum, host) => sum + host.retransmitted(), 0);
    const before = again();
    await client.run(process.execPath, '-e', RESETS, live.vip, `${ECHO}`);
    const { tx, rx } = await until(path, 'reset-by-client', 'echo');
    const more = again() - before;
    expect(counted(tx, 5, more)).toBe(5);
    expect(mode === 'dsr' ? rx : counted(rx, GREETED, more)).toBe(mode === 'dsr' ? null : GREETED);

    const killed = await holdConnections(client, 1, `${live.vip}:${ECHO}`);
    renameSync(path, `${path}.1`);
    const reloaded = live.balancer.running.nextLine(/"msg":"configuration reloaded"/);
    live.balancer.running.signal('SIGHUP');
    await reloaded;
    expect((await world.run('kill', 'flows', '--frontend', 'echo')).code).toBe(0);
    const end = await until(path, 'killed', 'echo');
    expect(linesIn(`${path}.1`).filter((line) => line.began === end.began)).toEqual([]);
    killed.end();

    // A disk without room: why is told once, and lines come again when there is some.
    const full = join(directory, 'full');
    mkdirSync(full);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=700', 'tmpfs', full]);
    try {
      // Full before the file is there: one line in it, of a connection that ended meanwhile, and its page had room for the next ones.
      execFileSync('sh', ['-c', `dd if=/dev/zero of=${full}/fill bs=4k 2>/dev/null || true`]);
      const said = live.balancer.running.nextLine(/ENOSPC.*connection log cannot be written/);
      await world.reload({ more: inFile(join(full, 'log')) });
      await get();
      await said;
      const again = live.balancer.running.nextLine(/connection log is written again/);
      rmSync(join(full, 'fill'));
      await get();
      await until(join(full, 'log'), 'fin', 'http');
      await again;
      // The log has let go of it.
      await world.reload({ more: inFile(path) });
    } finally {
      execFileSync('umount', ['--lazy', full]);
    }

    const socket = join(directory, 'syslog');
    const inbox = native().openDatagram(socket);
    try {
      const quiet = { ...quick, more: `[connection_log]\nto = "syslog"\nsyslog = "${socket}"\n${timeouts}` };
      await world.reload(quiet);
      // Of health checks that it opens by itself nothing is here: those are no clients.
      const idle = client.start([process.execPath, '-e', `require('node:net').connect(${ECHO}, '${live.vip}').on('error', () => {})`]);
      const text = await waitUntil(() => nextIn(inbox), { what: 'a datagram for syslog' });
      expect(text).toMatch(/^<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d lb4\[\d+\]: protocol=tcp client=\S+ frontend=echo .* end=idle$/);
      await idle.stop('SIGKILL');
    } finally {
      closeSync(inbox);
    }
    expect(await live.metric('lb4_connection_log_lines_total')).toBeGreaterThan(5);
    expect(await live.metric('lb4_connection_log_lost_total')).toBeGreaterThan(0);

    // Off.
    const written = linesIn(path).length;
    await world.reload({});
    await get();
    await live.balancer.stop();
    expect(linesIn(path)).toHaveLength(written);
  });
});

test('UDP: flows that were answered, and what nobody answers where attempts are told of', async () => {
  await using lab = new Topology({ servers: 1 });
  const path = join(lab.directory, 'udp.log');
  const [who, deaf] = [9000, 9001];
  await serveUdp(lab.servers[0], 'server1', who);
  const over = (port: number) => ({
    listen: `${VIP}:${port}`,
    servers: [`${serverAddress(0)}:${port}`],
    frontend: 'protocol = "udp"',
    backend: 'health_check = "none"',
  });
  const more = `${inFile(path, 'attempts = true')}[passthrough.timeouts]\nudp = 1\nudp_stream = 1\n`;
  await startBalancer(lab.balancer, { frontends: { who: over(who), deaf: over(deaf) }, more }, { healthy: false });
  const clients = new UdpClients(lab.client);
  await clients.ask(0, `${VIP}:${who}`, 'who');
  await clients.ask(1, `${VIP}:${deaf}`, 'lost', 0);
  expect(await until(path, 'idle', 'who')).toMatchObject({ to: `${VIP}:${who}`, server: 'who-out/s1', rx: expect.any(Number) as number });
  expect(await until(path, 'unanswered', 'deaf')).toMatchObject({ tx: 4, rx: 0 });
});

function nextIn(inbox: number): string | undefined {
  try {
    return native().receiveDatagram(inbox).text;
  } catch {
    return undefined; // EAGAIN
  }
}
