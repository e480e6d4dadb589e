/** Which mode a file is for, where nobody says. */
import { isAny, isLoopback } from '../config/address.ts';
import type { Config } from '../config/model.ts';
import { type Finding, ok, warn } from './finding.ts';
import { ownAddresses } from './network.ts';

/** The finding that the file works in proxy mode only; undefined when a packet mode may be meant, or must be. */
export async function onlyProxy({ file, frontends, backends }: Config): Promise<Finding | undefined> {
  if (backends.some(({ protocol }) => protocol.name !== 'tcp')) return undefined;
  const look = (why: string) => `this is a look for proxy mode: ${why}, which packet modes do not take`;
  const listens = frontends.map(({ listen }) => listen);
  const servers = backends.flatMap((backend) => backend.servers.map(({ addr }) => addr));
  const strange = listens.find((listen) => listen.family === 6 || isAny(listen) || isLoopback(listen));
  if (strange !== undefined) return ok('mode', look(`the file listens on ${strange.text}`));
  const proxied = servers.find((addr) => addr.family === 6 || isLoopback(addr));
  if (proxied !== undefined) return ok('mode', look(`the file has the server ${proxied.text}`));
  // On another host the same file may well be for a packet mode.
  const own = await ownAddresses();
  const here = servers.find(({ ip }) => own.has(ip));
  return here && warn('mode', look(`server ${here.text} is on this host`), `lb4 doctor --passthrough --config=${file}`);
}
