/** What proxy mode asks of a host: it needs no packet socket, no firewall rule and no neighbour, but ports and descriptors. */
import type { Config } from '../config/model.ts';
import { capable } from '../io/capabilities.ts';
import { read } from '../rules/read.ts';
import { countedBy, isTaken, savedRules } from '../rules/saved.ts';
import { type Finding, fail, ok, warn } from './finding.ts';
import { connectError } from './network.ts';

/** Fewer allow no more than a few hundred connections. */
const FEW_FILES = 4096;

export async function proxyHost(config: Config): Promise<Finding[]> {
  return [lowPorts(config), openFiles(), ...(await packetRules(config)), ...(await ipv6Servers(config))];
}

function lowPorts({ frontends, stats }: Config): Finding {
  const first = Number(read('/proc/sys/net/ipv4/ip_unprivileged_port_start') ?? 1024);
  const ports = [...frontends.map(({ listen }) => listen.port), ...(stats === undefined ? [] : [stats.listen.port])];
  const low = ports.find((port) => port < first);
  if (low === undefined || capable('CAP_NET_BIND_SERVICE')) return ok('privileges', 'this process may listen on every port of the file');
  return fail(
    'privileges',
    `this process lacks CAP_NET_BIND_SERVICE, which ports below ${first} need: ${low}`,
    `run it as root: sudo lb4 …; or sysctl -w net.ipv4.ip_unprivileged_port_start=${low}`,
  );
}

/** Those of a packet mode take clients' packets from the kernel. */
async function packetRules({ file, frontends }: Config): Promise<Finding[]> {
  const ours = countedBy(await savedRules('raw'));
  const deaf = frontends.filter(({ listen, backend }) => isTaken(ours, listen, backend.protocol));
  return deaf.map(({ name, listen }) => {
    const mend = `stop the lb4 in packet mode that runs here, or: lb4 rules --remove --config=${file}`;
    return fail('firewall', `rules of a packet mode drop what clients send to frontend ${name} (${listen.text})`, mend);
  });
}

function openFiles(): Finding {
  const limit = Number(/^Max open files\s+\d+\s+(\d+)/m.exec(read('/proc/self/limits') ?? '')?.[1]);
  const text = `at most ${limit} open files (ulimit -Hn), two for each connection`;
  return limit < FEW_FILES ? warn('open files', text, `ulimit -Hn 1048576, or LimitNOFILE=1048576 in the unit`) : ok('open files', text);
}

/** What connect(2) says of them: rtnetlink is asked about IPv4 only. */
async function ipv6Servers({ backends }: Config): Promise<Finding[]> {
  const servers = new Map(backends.flatMap(({ servers }) => servers.map(({ addr }) => [addr.ip, addr] as const)));
  const wanted = [...servers.values()].filter(({ family }) => family === 6);
  return Promise.all(
    wanted.map(async ({ ip, port }) => {
      const code = await connectError(ip, port);
      if (code === 'ENETUNREACH') return fail('route', `there is none to server ${ip}`, `ip -6 route add ${ip} via GATEWAY`);
      if (code === 'EHOSTUNREACH') return fail('route', `nobody answers for server ${ip}`, `ping -c 1 ${ip}; ip -6 neigh show ${ip}`);
      return ok('route', `server ${ip} is reached`);
    }),
  );
}
