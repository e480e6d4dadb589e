/** What a Linux host can balance TCP or UDP with, to be measured in one run: each started in the lab's balancer, and ended. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Balancer, LARGE_RING, startBalancer } from '../test/lab/balancer.ts';
import { type Topology, VIP } from '../test/lab/topology.ts';
import { waitUntil } from '../test/lab/wait.ts';
import { compileBpf } from './measure.ts';

/** What is balanced: each port of VIP over the same port of all servers, in turn. */
export interface Duty {
  readonly ports: readonly number[];
  readonly servers: readonly string[];
  /** TCP when left out. */
  readonly protocol?: 'tcp' | 'udp';
  /** UDP that nobody answers. */
  readonly isOneWay?: boolean;
}

export interface Subject {
  /** Of the process; undefined: the kernel. */
  readonly pid?: number;
  stop(): Promise<unknown>;
}

export type Start = (lab: Topology, duty: Duty) => Promise<Subject>;

/**
 * @param more whole sections for the configuration file
 * @param keys of every backend
 */
export function lb4(args: readonly string[] = [], more = '', keys = ''): Start {
  return async (lab, { ports, servers, protocol }) => {
    const over = (port: number) => ({
      listen: `${VIP}:${port}`,
      servers: servers.map((server) => `${server}:${port}`),
      // The default check of UDP waits for three seconds of silence.
      backend: `${protocol === 'udp' ? 'health_check = "none"' : 'health_check_interval = 3600'}\n${keys}`,
      ...(protocol !== undefined && { frontend: `protocol = "${protocol}"` }),
    });
    const frontends = Object.fromEntries(ports.map((port) => [`port${port}`, over(port)]));
    const settings = { frontends, more, ring: LARGE_RING };
    const balancer: Balancer = await startBalancer(lab.balancer, settings, { args, healthy: false });
    return { pid: balancer.running.pid, stop: () => balancer.stop() };
  };
}

/** XDP by which every segment that comes by one side leaves by the other, as it is but for its Ethernet header. */
export async function floor(lab: Topology, _: Duty, defines: readonly string[] = []): ReturnType<Start> {
  redirect(lab, 'front', 'back', lab.servers[0], defines);
  redirect(lab, 'back', 'front', lab.client, defines);
  const off = (device: string) => lab.balancer.ip('link', 'set', device, 'xdpdrv', 'off');
  return { stop: async () => void ['front', 'back'].map(off) };
}

/** The same to a server that has the VIP itself, but for what comes from addresses of floods: that is dropped. */
export const floodedFloor: Start = async (lab, duty) => {
  const [server] = lab.servers;
  server.ip('address', 'add', `${VIP}/32`, 'dev', 'lo');
  const { stop } = await floor(lab, duty, ['-DFLOODED']);
  return { stop: async () => void (await stop(), server.ip('address', 'del', `${VIP}/32`, 'dev', 'lo')) };
};

function redirect({ balancer }: Topology, from: string, to: string, host: Topology['client'], defines: readonly string[]): void {
  const bytes = (mac: string) =>
    mac
      .split(':')
      .map((byte) => `0x${byte}`)
      .join(',');
  const [{ ifindex }] = JSON.parse(balancer.ip('-j', 'link', 'show', to)) as [{ ifindex: number }];
  const addresses = [`-DTO=${bytes(host.mac('eth0'))}`, `-DFROM=${bytes(balancer.mac(to))}`];
  const object = compileBpf('redirect', `redirect-${from}`, [`-DINTERFACE=${ifindex}`, ...addresses, ...defines]);
  balancer.ip('link', 'set', from, 'xdpdrv', 'object', object, 'section', 'xdp');
}

/** The kernel's own NAT: nftables' dnat and snat, with conntrack. */
export const conntrack: Start = async ({ balancer }, { ports, servers, protocol = 'tcp' }) => {
  const turns = servers.map((server, i) => `${i} : ${server}`).join(', ');
  balancer.sysctl('net.ipv4.ip_forward', '1');
  balancer.sh(
    'nft',
    `table ip bench {
      chain in { type nat hook prerouting priority dstnat;
        ip daddr ${VIP} ${protocol} dport { ${ports.join(', ')} } dnat to numgen inc mod ${servers.length} map { ${turns} }; }
      chain out { type nat hook postrouting priority srcnat; ip daddr { ${servers.join(', ')} } snat to ${VIP}; }
    }`,
  );
  return {
    stop: async () => {
      balancer.sh('nft', 'delete table ip bench');
      balancer.sysctl('net.ipv4.ip_forward', '0');
    },
  };
};

export const haproxy: Start = async ({ balancer, directory }, { ports, servers }) => {
  const listen = (port: number) =>
    [`listen port${port}`, `  bind ${VIP}:${port}`, ...servers.map((server, i) => `  server s${i} ${server}:${port}`)].join('\n');
  const file = join(directory, 'haproxy.cfg');
  writeFileSync(
    file,
    `global
  maxconn 4000
defaults
  mode tcp
  balance roundrobin
  timeout connect 5s
  timeout client 1m
  timeout server 1m
${ports.map(listen).join('\n')}
`,
  );
  const running = balancer.start(['haproxy', '-db', '-f', file]);
  // It says nothing when it is ready.
  const port = `:${ports[0]} `;
  await waitUntil(() => running.exit !== undefined || balancer.sh('ss', '-ltnH').includes(port), { what: 'HAProxy to listen' });
  return { pid: running.pid, stop: () => running.stop() };
};

/** UDP alone: its module `stream`. A session ends after as long a silence as a flow of lb4's, and at once where no answer is to come. */
export const nginx: Start = async ({ balancer, directory }, { ports, servers, isOneWay = false }) => {
  const server = (port: number) =>
    `upstream to${port} { ${servers.map((address) => `server ${address}:${port};`).join(' ')} }
    server { listen ${VIP}:${port} udp reuseport; proxy_pass to${port}; proxy_timeout 120s; ${isOneWay ? 'proxy_responses 0;' : ''} }`;
  const file = join(directory, 'nginx.conf');
  writeFileSync(
    file,
    `load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off; user root; worker_processes auto; pid ${directory}/nginx.pid; error_log ${directory}/nginx.log;
events { worker_connections 16000; }
stream {
  ${ports.map(server).join('\n  ')}
}
`,
  );
  const running = balancer.start(['nginx', '-c', file, '-e', join(directory, 'nginx.log')]);
  const port = `:${ports[0]} `;
  await waitUntil(() => running.exit !== undefined || balancer.sh('ss', '-lunH').includes(port), { what: 'nginx to listen' });
  return { pid: running.pid, stop: () => running.stop() };
};
