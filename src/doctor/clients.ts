/** Backends whose servers see their clients (nat = "destination"): as much of the way back as this host can tell. */
import { isPacketMode } from '../config/modes.ts';
import { answersClients } from '../rules/from-config.ts';
import { read } from '../rules/read.ts';
import { counted, type Finding, type Host, ok, warn } from './finding.ts';

export function returnWay({ mode, config }: Host): Finding[] {
  const backends = isPacketMode(mode) ? config.backends.filter((backend) => answersClients(mode, backend)) : [];
  const servers = [...new Set(backends.flatMap(({ servers: own }) => own.map(({ addr }) => addr.ip)))];
  const [first] = servers;
  if (first === undefined) return [];
  const way = `${counted(servers.length, 'server')} must answer clients through this host, which cannot ask them`;
  const how = `where the way to clients is another, lb4 rules --config=${config.file} --for ${first} prints what a server needs`;
  return [ok('return route', `${way}: ${how}; those that lb4 gets no answers from are told in its log`), ...forwarding()];
}

/** What is none of lb4's takes the kernel's way. */
function forwarding(): Finding[] {
  if (read('/proc/sys/net/ipv4/ip_forward')?.trim() !== '0') return [];
  const what = 'those who speak to the servers directly, and what servers open themselves, do not pass this host';
  return [warn('forwarding', `net.ipv4.ip_forward is 0: ${what}; what lb4 balances does`, 'sysctl -w net.ipv4.ip_forward=1')];
}
