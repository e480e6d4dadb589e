/** Whether what fills the way to a server behind a tunnel arrives there: where it does not, and no router says so, who sent it is told of nothing. */
import { isPacketMode } from '../config/modes.ts';
import { messageOf } from '../errors.ts';
import { echoOf } from '../io/tunnel-echo.ts';
import type { Probed } from '../io/tunnel-probe.ts';
import { serverRulesFor } from '../rules/from-config.ts';
import { type Finding, fail, type Host, ok, warn } from './finding.ts';
import type { ServerPath } from './network.ts';

/** Bytes of a ping that any way takes, its headers included. */
const SMALL = 84;
/** Milliseconds in which a server answers one of three, or does not. */
const PATIENCE = 1500;

/** Whether a server answers a ping of so many bytes, headers included, that may not be cut. */
export type Ping = (server: string, bytes: number) => Promise<Probed<undefined>>;

/**
 * What routers say of a packet of lb4's only a running one hears (engine/outer-paths.ts), and some say nothing. So it is tried by pings of that size that may not be cut.
 * Not by ping(8): to its sockets the kernel listens, and would have the way to the server narrower from then on for all of this host.
 */
export async function tunnels({ config, mode, paths }: Pick<Host, 'config' | 'mode' | 'paths'>, ping: Ping = pingNow): Promise<Finding[]> {
  if (!isPacketMode(mode)) return [];
  const ways = paths.filter(({ link, local }) => link !== undefined && !local);
  const looks = ways.map(async (way) => {
    const around = Math.max(0, ...(serverRulesFor(config, mode, way.address).tunnels ?? []).map(({ overhead }) => overhead));
    return around === 0 ? [] : [await look(way, around, ping)];
  });
  return (await Promise.all(looks)).flat();
}

function pingNow(server: string, bytes: number): Promise<Probed<undefined>> {
  return echoOf({ server }, bytes, performance.now() + PATIENCE);
}

async function look({ address, mtu, link = '' }: ServerPath, around: number, ping: Ping): Promise<Finding> {
  const whole = await ping(address, mtu);
  if (whole.end === 'answered')
    return ok('path MTU', `packets of ${mtu} bytes reach server ${address}, so clients' packets of ${mtu - around} bytes do`);
  if (whole.end === 'unsent')
    return warn('path MTU', `whether ${mtu} bytes reach server ${address} cannot be told: ${messageOf(whole.error)}`);
  // It answers none: that says nothing.
  if (whole.end === 'unheard' || (await ping(address, SMALL)).end !== 'answered')
    return ok('path MTU', `server ${address} answers no pings: whether ${mtu} bytes reach it cannot be told`);
  return fail(
    'path MTU',
    `server ${address} answers small pings, and none of ${mtu} bytes, which the route allows: large packets to it, uploads, are lost in the tunnel, and nobody is told where no router says so`,
    `tracepath -n ${address}; ip route replace ${address} via GATEWAY dev ${link} mtu BYTES`,
  );
}
