/** Whether what fills the way to a server behind a tunnel arrives there: where it does not, and no router says so, who sent it is told of nothing. */
import { isPacketMode } from '../config/modes.ts';
import { serverRulesFor } from '../rules/from-config.ts';
import { ask } from '../rules/saved.ts';
import { type Finding, fail, type Host, ok } from './finding.ts';
import type { ServerPath } from './network.ts';

/** Bytes of the headers of IPv4 and ICMP around a ping's data. */
const PING_HEADERS = 28;

/** What routers say of a packet of lb4's only a running one hears (engine/outer-paths.ts), and some say nothing. So it is tried by pings of that size that may not be cut. */
export async function tunnels(
  { config, mode, paths }: Pick<Host, 'config' | 'mode' | 'paths'>,
  asks: typeof ask = ask,
): Promise<Finding[]> {
  if (!isPacketMode(mode)) return [];
  const ways = paths.filter(({ link, local }) => link !== undefined && !local);
  const looks = ways.map(async (way) => {
    const around = Math.max(0, ...(serverRulesFor(config, mode, way.address).tunnels ?? []).map(({ overhead }) => overhead));
    return around === 0 ? [] : [await look(way, around, asks)];
  });
  return (await Promise.all(looks)).flat();
}

async function look({ address, mtu, link = '' }: ServerPath, around: number, asks: typeof ask): Promise<Finding> {
  const pings = (...more: string[]) => asks('ping', '-n', '-q', '-c', '2', '-i', '0.2', '-W', '1', ...more, address);
  if ((await pings('-M', 'do', '-s', `${mtu - PING_HEADERS}`)) !== undefined)
    return ok('path MTU', `packets of ${mtu} bytes reach server ${address}, so clients' packets of ${mtu - around} bytes do`);
  // It answers none, or there is no ping here: that says nothing.
  if ((await pings()) === undefined)
    return ok('path MTU', `server ${address} answers no pings: whether ${mtu} bytes reach it cannot be told`);
  return fail(
    'path MTU',
    `server ${address} answers small pings, and none of ${mtu} bytes, which the route allows: large packets to it, uploads, are lost in the tunnel, and nobody is told where no router says so`,
    `tracepath -n ${address}; ip route replace ${address} via GATEWAY dev ${link} mtu BYTES`,
  );
}
