/** lb4 between interfaces, a service of TCP, UDP and pings that is nobody's address, and who asks it. */
import { Balancer, LB4, STATS_PORT, writeConfiguration } from './balancer.ts';
import type { Namespace } from './lab.ts';
import { PYTHON } from './processes.ts';

export const SERVICE = '10.0.0.1';

/** A file with the service's frontends, its server at `server`, and `ports`: the table [inline]. */
export function file(box: Namespace, ports: string, server: string, more = ''): string {
  return writeConfiguration(box, textOf(ports, server, more));
}

/** Its text. */
export function textOf(ports: string, server: string, more = ''): string {
  return `${ports}
[frontends.web]
listen_addr = "${SERVICE}:80"
backend = "web"
[frontends.echo]
listen_addr = "${SERVICE}:80"
protocol = "udp"
backend = "echo"
[frontends.ping]
listen_addr = "${SERVICE}"
protocol = "icmp"
backend = "ping"
[backends.ping]
health_check = "none"
[backends.ping.servers.a]
addr = "${server}:80"
[backends.web]
health_check = "none"
[backends.web.servers.a]
addr = "${server}:80"
[frontends.hold]
listen_addr = "${SERVICE}:7"
backend = "hold"
[backends.hold]
health_check = "none"
[backends.hold.servers.a]
addr = "${server}:7"
[backends.echo]
health_check = "none"
[backends.echo.servers.a]
addr = "${server}:8080"
[stats]
address = "127.0.0.1"
port = "${STATS_PORT}"
[passthrough]
ring_slots = 256
${more}`;
}

/** Resolves when it is ready. */
export async function startInline(box: Namespace, config: string, ...flags: string[]): Promise<Balancer> {
  const running = box.start([LB4, '--inline', `--config=${config}`, ...flags]);
  await running.line(/"msg":"ready"/);
  return new Balancer(box, running, `http://127.0.0.1:${STATS_PORT}/stats`);
}

/** HTTP on 80, echo on 7, and UDP that comes back from 8080 of `address`. */
export async function serve(server: Namespace, address: string): Promise<void> {
  const web = server.program('backend', 'server', 'http=80', 'echo=7');
  const echo = server.start([PYTHON, '-c', ECHO, address]);
  await Promise.all([web.line(/^listening/), echo.line(/^ready/)]);
}

const ECHO = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 8080))
print("ready", flush=True)
while True:
    data, peer = s.recvfrom(65535)
    s.sendto(data + b" " + peer[0].encode(), peer)
`;
const ASK = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
for _ in range(20):
    s.sendto(b"x" * int(sys.argv[3]), (sys.argv[1], int(sys.argv[2])))
    try:
        data, peer = s.recvfrom(65535)
    except TimeoutError:
        continue
    print(data[int(sys.argv[3]):].decode().strip(), peer[0], peer[1])
    break
`;

/** How many of 200 datagrams come back, and how many different ones: none is forwarded twice. */
export async function flood(from: Namespace, at: string, port: number): Promise<string> {
  return said(await from.run(PYTHON, '-c', FLOOD, at, `${port}`));
}

/** What a program has printed, or why it could not: a failing test then shows the reason. */
function said({ stdout, stderr }: { readonly stdout: string; readonly stderr: string }): string {
  return (stdout || stderr).trim();
}

const FLOOD = `
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], int(sys.argv[2])))
s.settimeout(20)
seen = []
for i in range(200):
    s.send(b"%d" % i)
    seen.append(s.recv(65535))
s.settimeout(1)
try:
    while True:
        seen.append(s.recv(65535))
except TimeoutError:
    print(len(seen), len(set(seen)))
`;

/** Rejects where it is not answered. */
export async function ping(from: Namespace, to: string): Promise<void> {
  const { code, stdout } = await from.run('ping', '-c1', '-W1', '-w20', to);
  if (code !== 0) throw new Error(`ping ${to}: ${stdout}`);
}

/** Whom the web server has seen. */
export async function web(from: Namespace, at: string, path = '/'): Promise<string> {
  const seen = await from.run('curl', '-sS', '-m20', '-o/dev/null', '-w%{http_code} %header{x-peer}', `http://${at}${path}`);
  return said(seen).replace(/:\d+$/, '');
}

/** Whom the echo server has seen of a datagram of so many bytes, and from whom the answer came. */
export async function udp(from: Namespace, at: string, port: number, bytes = 100): Promise<string> {
  return said(await from.run(PYTHON, '-c', ASK, at, `${port}`, `${bytes}`));
}
