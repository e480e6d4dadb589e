/** The PROXY protocol with its inventors: HAProxy before lb4 and behind it, and curl. */
import { createWriteStream, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Balancer, startBalancer } from '../lab/balancer.ts';
import { content, contentHash } from '../lab/content.ts';
import { clientAddress, serverAddress, Topology, VIP } from '../lab/topology.ts';
import { waitUntil } from '../lab/wait.ts';

/** HAProxy, told `accept-proxy`, answers with the address that it takes for its client's. */
const SERVER = `defaults
  mode http
  timeout connect 60s
  timeout client 60s
  timeout server 60s
frontend told
  bind :80 accept-proxy
  http-request return status 200 content-type text/plain lf-string "%[src] %[src_port]\\n"
listen stripped
  bind :81 accept-proxy
  mode tcp
  server backend 127.0.0.1:8000
`;

/** HAProxy before lb4, on the balancer: 9001 speaks v1 to lb4's port 8001, 9002 v2 to 8002. */
const BEFORE = `defaults
  mode tcp
  timeout connect 60s
  timeout client 60s
  timeout server 60s
listen v1
  bind ${VIP}:9001
  bind fd01::1:9001
  server lb4 ${VIP}:8001 send-proxy
listen v2
  bind ${VIP}:9002
  bind fd01::1:9002
  server lb4 ${VIP}:8002 send-proxy-v2
`;

let lab: Topology;
let balancer: Balancer;

beforeAll(async () => {
  lab = new Topology({ servers: 1 });
  lab.balancer.ip('addr', 'add', 'fd01::1/64', 'dev', 'front', 'nodad');
  lab.client.ip('addr', 'add', 'fd01::101/64', 'dev', 'eth0', 'nodad');
  for (const [where, name, text] of [
    [lab.servers[0], 'server', SERVER],
    [lab.balancer, 'before', BEFORE],
  ] as const) {
    const file = join(lab.directory, `${name}.cfg`);
    writeFileSync(file, text);
    where?.start(['haproxy', '-db', '-f', file]);
  }
  await lab.servers[0]?.program('backend', 'behind', 'http=8000').line(/^listening/);
  // The server's is found by health checks.
  await waitUntil(() => lab.balancer.sh('ss', '-Htln', 'sport = :9002').trim().split('\n').length === 2, { what: 'HAProxy to listen' });
  const to = (listen: string, version: string, isTold: boolean, port = 80) => ({
    listen,
    servers: [`${serverAddress(0)}:${port}`],
    backend: `health_check_interval = 0.25\nsend_proxy = "${version}"`,
    frontend: `accept_proxy = ${isTold}`,
  });
  balancer = await startBalancer(
    lab.balancer,
    {
      frontends: {
        direct1: to(`${VIP}:81`, 'v1', false),
        direct2: to(`${VIP}:82`, 'v2', false),
        six1: to('[fd01::1]:81', 'v1', false),
        six2: to('[fd01::1]:82', 'v2', false),
        // Told in one version, tells in the other.
        told1: to(`${VIP}:8001`, 'v2', true),
        told2: to(`${VIP}:8002`, 'v1', true),
        stripped: to(`${VIP}:8003`, 'v2', true, 81),
      },
      more: '[proxy]\ngrace_period = 1',
    },
    { args: ['proxy'] },
  );
});

afterAll(async () => {
  const exit = await balancer?.stop();
  await lab?.[Symbol.asyncDispose]();
  expect(exit).toEqual({ code: 0, signal: null });
});

const V4 = clientAddress(0);
const V6 = 'fd01::101';

test.each([
  ['lb4 sends v1', V4, `${VIP}:81`],
  ['lb4 sends v2', V4, `${VIP}:82`],
  ['lb4 sends v1 of IPv6', V6, '[fd01::1]:81'],
  ['lb4 sends v2 of IPv6', V6, '[fd01::1]:82'],
  ['HAProxy’s v1, lb4’s v2', V4, `${VIP}:9001`],
  ['HAProxy’s v2, lb4’s v1', V4, `${VIP}:9002`],
  ['HAProxy’s v1 of IPv6, lb4’s v2', V6, '[fd01::1]:9001'],
  ['HAProxy’s v2 of IPv6, lb4’s v1', V6, '[fd01::1]:9002'],
  ['curl’s v1, lb4’s v2', V4, `${VIP}:8001`, '--haproxy-protocol'],
  ['curl’s v1, lb4’s v1', V4, `${VIP}:8002`, '--haproxy-protocol'],
])('%s: the server sees the client’s own address and port', async (_name, address, to, ...options) => {
  const { code, stdout, stderr } = await lab.client.run('curl', '-sS', '-m', '60', '-w', '%{local_port}', ...options, `http://${to}/`);
  expect(code, stderr).toBe(0);
  const [seen, port] = stdout.split('\n');
  expect(seen).toBe(`${address} ${port}`);
});

test('20 uploads at once: not a byte after the header is lost or added', async () => {
  const size = 3_000_000;
  const body = join(lab.directory, 'body');
  await pipeline(content(size), createWriteStream(body));
  const options = ['-sS', '-m', '60', '-Z', '--parallel-immediate', '--haproxy-protocol', '-H', 'Expect:'];
  const { code, stdout } = await lab.client.run('curl', ...options, '--data-binary', `@${body}`, `http://${VIP}:8003/?[1-20]`);
  expect(code).toBe(0);
  expect(stdout.match(/[0-9a-f]{64}/g)).toEqual(Array(20).fill(contentHash(size)));
});

test('a client without a header is reset, and the log says so', async () => {
  const { code } = await lab.client.run('curl', '-sS', '-m', '60', `http://${VIP}:8001/`);
  expect(code).toBe(56);
  await balancer.running.line(/"frontend":"told1".*without a valid PROXY header/);
});
