/** Packets of a running lb4, with tshark as a reader that shares no code with it. What every mode has in common: control.test.ts. */
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { fastPathObstacle } from '../../src/io/fast-path.ts';
import { LB4 } from '../lab/balancer.ts';
import { holdConnections, othersLiveOn } from '../lab/hold.ts';
import { Operated } from '../lab/operated.ts';
import { PYTHON, type Running, run } from '../lab/processes.ts';
import { clientAddress, ECHO, HTTP, VIP } from '../lab/topology.ts';
import { waitUntil } from '../lab/wait.ts';
import { ipv4, RST } from '../lab/wire.ts';

const FAST = fastPathObstacle() === undefined;
const CLIENT = clientAddress(0);
const PORT = 23_456;
const FORWARDED = 'lb4_fast_path_packets_total';

let world: Operated;

beforeAll(async () => {
  world = await Operated.start('passthrough', { more: `[passthrough]\nfast_path = "${FAST ? 'tc' : 'off'}"\nworkers = 2` });
  // It changes with a restart alone.
  await world.live.balancer.stop();
  await world.live.launch();
});

afterAll(() => world?.live[Symbol.asyncDispose]());

async function start(...words: string[]): Promise<Running> {
  const running = world.live.lab.balancer.start([LB4, 'capture', '--control', world.socket, ...words]);
  await running.line(/^lb4: capturing/);
  return running;
}

async function fetchFrom(port: number, path = ''): Promise<void> {
  const { code, stderr } = await world.live.lab.client.run(
    'curl',
    '-sS',
    '-o',
    '/dev/null',
    '--local-port',
    `${port}`,
    `http://${VIP}/${path}`,
  );
  expect(code, stderr).toBe(0);
}

/** A row a packet, as tshark has it. */
async function dissected(file: string, ...fields: string[]): Promise<string[][]> {
  const { code, stdout, stderr } = await run(['tshark', '-n', '-r', file, '-T', 'fields', ...fields.flatMap((field) => ['-e', field])]);
  expect(code, stderr).toBe(0);
  return stdout
    .trim()
    .split('\n')
    .map((line) => line.split('\t'));
}

test('tshark reads both sides of a connection, and nothing of another client', async () => {
  const file = join(world.live.lab.directory, 'handshake.pcapng');
  const capture = await start('--client', `${CLIENT}:${PORT}`, '--count', '4', '-w', file);
  await fetchFrom(PORT + 1);
  await fetchFrom(PORT);
  expect((await capture.exited).code).toBe(0);
  expect(capture.lines).toContain('lb4: 4 packets captured');

  const rows = await dissected(
    file,
    'frame.interface_name',
    'frame.packet_flags_direction',
    'ip.src',
    'tcp.srcport',
    'ip.dst',
    'tcp.dstport',
    'tcp.flags',
    'frame.comment',
  );
  const server = /server (http-out\/server\d)/.exec(rows[0]?.at(-1) ?? '')?.[1] ?? '';
  const address = server.endsWith('1') ? world.live.addresses[0] : world.live.addresses[1];
  const port = rows[1]?.[3];
  const how = (verdict: string) => `${verdict}; frontend http; server ${server}`;
  expect(rows).toEqual([
    ['front', '0x00000001', CLIENT, `${PORT}`, VIP, `${HTTP}`, '0x0002', how('opened')],
    ['back', '0x00000002', VIP.replace('10.71', '10.72'), port, address, `${HTTP}`, '0x0002', how('opened')].with(2, rows[1]?.[2] ?? ''),
    ['back', '0x00000001', address, `${HTTP}`, rows[1]?.[2], port, '0x0012', how('forwarded')],
    ['front', '0x00000002', VIP, `${HTTP}`, CLIENT, `${PORT}`, '0x0012', how('forwarded')],
  ]);
  // It is now, and in order.
  const times = (await dissected(file, 'frame.time_epoch')).map(([time]) => Number(time));
  expect(times).toEqual(times.toSorted((a, b) => a - b));
  expect(Math.abs(Date.now() / 1000 - (times[0] ?? 0))).toBeLessThan(600);
});

test('what is dropped is there, with its verdict', async () => {
  const capture = await start('--frontend', 'http', '--count', '1');
  const reset = ipv4({ source: CLIENT, destination: VIP, sourcePort: 9, destinationPort: HTTP, flags: RST });
  const script = `import socket; s = socket.socket(2, 3, 255); s.sendto(bytes.fromhex("${reset.toString('hex')}"), ("${VIP}", 0))`;
  expect(await world.live.lab.client.run(PYTHON, '-c', script)).toMatchObject({ code: 0, stderr: '' });
  const line = await capture.line(/dropStray/);
  expect(line).toMatch(
    new RegExp(String.raw`^\d\d:\d\d:\d\d\.\d{6} in  front ${CLIENT}:9 > ${VIP}:${HTTP} tcp \[R\] length 0  dropStray; frontend http$`),
  );
  expect((await capture.exited).code).toBe(0);
});

test('one at a time, names are looked up, and Ctrl-C leaves a whole file', async () => {
  const file = join(world.live.lab.directory, 'whole.pcapng');
  const capture = await start('--server', 'http-out/server1', '-w', file);
  expect(await world.run('capture')).toMatchObject({ code: 5, stderr: expect.stringContaining('another capture runs') as string });
  expect(await world.run('capture', '--frontend', 'htp')).toMatchObject({
    code: 4,
    stderr: expect.stringContaining('did you mean "http"?') as string,
  });
  expect((await world.run('capture', '--count', '0')).code).toBe(2);
  expect(await capture.stop('SIGINT')).toMatchObject({ code: 0 });
  expect(capture.lines).toContain('lb4: 0 packets captured');
  expect((await run(['tshark', '-n', '-r', file])).code).toBe(0);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  // Its place is free again.
  await (await start()).stop('SIGINT');
});

test('every worker is captured, and a capture leaves nothing behind in them', async () => {
  for (let round = 0; round < 2; round++) {
    const capture = await start('--frontend', 'http');
    await world.answering();
    const syn = new RegExp(String.raw` in  front ${CLIENT}:(\d+) .* tcp \[S\] `);
    // By its port: one that is answered late is sent again.
    const opened = () => new Set(capture.lines.map((line) => syn.exec(line)?.[1]).filter(Boolean)).size;
    await waitUntil(() => opened() === 20, { what: 'a line for each connection' });
    await capture.stop('SIGINT');
  }
  // The main thread's and the workers'.
  const mappings = readFileSync(`/proc/${world.live.balancer.running.pid}/maps`, 'utf8').split('\n');
  expect(mappings.filter((line) => line.includes('lb4 capture'))).toHaveLength(3);
});

test.each([
  ['cannot be opened', '/proc/none/capture.pcapng', 'ENOENT'],
  ['has no room', '/dev/full', 'what was captured could not be written: ENOSPC'],
])('a file that %s ends it, and the next one has its place', async (_, file, why) => {
  expect(await world.run('capture', '-w', file)).toMatchObject({ code: 1, stderr: expect.stringContaining(why) as string });
  await (await start()).stop('SIGINT');
});

test('whoever does not read holds up nobody, and is told what he has missed', async () => {
  // Whole packets of a client, which the kernel leaves to the worker: ten times what ring and sockets hold.
  const capture = await start('--client', CLIENT, '--snaplen', '65535');
  capture.signal('SIGSTOP');
  await fetchFrom(PORT + 2, 'content/50000000');
  capture.signal('SIGCONT');
  let port = PORT + 10;
  const isSeen = async () => {
    await fetchFrom(++port);
    return capture.lines.some((line) => line.includes(`:${port} `));
  };
  await waitUntil(isSeen, { what: 'what comes now to be captured' });
  await capture.stop('SIGINT');
  expect(capture.lines.join('\n')).toMatch(/warning: \d+ more were lost: they came faster than they were read/);
});

test.skipIf(!FAST)('what the kernel forwards is said to be absent', async () => {
  const file = join(world.live.lab.directory, 'absent.pcapng');
  const capture = await start('--frontend', 'http', '-w', file);
  await fetchFrom(PORT + 3, 'content/5000000');
  await waitUntil(() => readFileSync(file).includes('by the fast path'), { what: 'it to be told' });
  await capture.stop('SIGINT');
  expect(capture.lines.join('\n')).toMatch(
    /warning: \d+ packets were forwarded by the fast path in the kernel and are not here; --client=/,
  );
});

test.skipIf(!FAST)('a client whose connections the kernel has is seen, and they are given back', async () => {
  const held = await holdConnections(world.live.lab.client, 2, `${VIP}:${ECHO}`);
  await waitUntil(async () => (await world.live.metric(FORWARDED)) > 10, { what: 'the kernel to have them' });
  // Each ping and each answer twice, and up to four acknowledgements: at least twelve of each.
  const capture = await start('--client', CLIENT, '--frontend', 'echo', '--count', '100');
  expect((await capture.exited).code).toBe(0);
  const sent = capture.lines.filter((line) => line.includes(`in  front ${CLIENT}:`) && line.includes('[P.]'));
  const answered = capture.lines.filter((line) => line.includes(`out front ${VIP}:${ECHO} > ${CLIENT}:`) && line.includes('[P.]'));
  expect([sent.length, answered.length].every((count) => count > 5)).toBe(true);
  const before = await world.live.metric(FORWARDED);
  await waitUntil(async () => (await world.live.metric(FORWARDED)) > before + 20, { what: 'the kernel to have them again' });
  expect(await othersLiveOn(held)).toEqual([]);
  held.end();
});

test('it ends with lb4, which no silent connection to its socket holds up', async () => {
  const silent = connect(world.socket);
  await once(silent, 'connect');
  const file = join(world.live.lab.directory, 'end.pcapng');
  const capture = await start('-w', file);
  expect((await world.live.balancer.stop()).code).toBe(0);
  expect((await capture.exited).code).toBe(0);
  expect(capture.lines.join('\n')).toContain('this lb4 stops, or another has taken over from it');
});
