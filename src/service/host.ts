/** What a mode asks of this host, and what the host's refusals mean. */
import { networkInterfaces } from 'node:os';
import { sayOf } from '../config/load.ts';
import type { Address, Config } from '../config/model.ts';
import { isOurs, sourceTowards } from '../engine/routes.ts';
import {
  addonError,
  FailureError,
  KernelFeatureError,
  Lb4Error,
  ListenAddressError,
  PcapPackagesError,
  PrivilegeError,
  resourceError,
} from '../errors.ts';
import { native } from '../io/native.ts';
import { formatAddress, parseAddress } from '../packet/address.ts';

/** Throws ListenAddressError when this host, as it is now, cannot serve `config` in a packet mode. */
export function assertHost(config: Config): void {
  // The kernel is asked, not os.networkInterfaces(): that leaves out interfaces whose link is not up (yet).
  const frontends = config.frontends.map(({ name, listen }) => [listen.ip, ['frontends', name, 'listen_addr']] as const);
  const sources = config.backends.flatMap(({ name, sourceAddrs }) =>
    sourceAddrs.map((ip, place) => [ip, ['backends', name, 'source_addrs', place]] as const),
  );
  const outer = config.backends.flatMap(({ name, tunnel }) =>
    tunnel?.source === undefined ? [] : [[tunnel.source, ['backends', name, 'source_addr']] as const],
  );
  const stranger = [...frontends, ...sources, ...outer].find(([ip]) => !isOurs(parseAddress(ip)));
  if (stranger === undefined) return;
  const [ip, path] = stranger;
  const message = `${ip} is not an address of this host; interfaces and addresses: ${addresses(['IPv4'])}`;
  throw new ListenAddressError(sayOf(config.file, path, message));
}

/** Whether an address is this host's. Where the addon is not built, of interfaces that are up. */
export function isOwn({ ip, family }: Pick<Address, 'ip' | 'family'>): boolean {
  try {
    if (family === 4) return isOurs(parseAddress(ip));
  } catch {
    // The list must do.
  }
  return Object.values(networkInterfaces()).some((list = []) => list.some(({ address }) => address === ip));
}

function addresses(families: readonly string[]): string {
  const all = Object.entries(networkInterfaces()).flatMap(([name, list = []]) => list.map((one) => ({ name, ...one })));
  const ours = all.filter(({ family }) => families.includes(family)).map(({ name, address }) => `${name} ${address}`);
  return ours.join(', ') || 'none';
}

/** The processors that workers can be pinned to; undefined where the addon is not built. */
export function usableCpus(): readonly number[] | undefined {
  try {
    return native().usableCpus();
  } catch {
    return undefined;
  }
}

/** The address that this host would send from; undefined where the kernel does not say, or the addon is not built. */
export function sourceOf({ ip, family }: Address): string | undefined {
  try {
    return family === 4 ? formatAddress(sourceTowards(parseAddress(ip))) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Turns a system error met while starting into one with lb4's exit code and what to do about it.
 * @param file the configuration; where the error knows the `key` that it comes from, its place there is named
 */
export function explain(error: unknown, file: string): unknown {
  if (error instanceof Lb4Error || !(error instanceof Error)) return error;
  const starved = resourceError(error);
  if (starved !== undefined) return starved;
  const { code, syscall } = error as NodeJS.ErrnoException;
  // bind: lb4's own sockets; listen: Node's, which binds as well.
  if (syscall === 'bind' || syscall === 'listen') return explainBind(error, code, (message) => placed(error, file, message));
  if (code === 'EPERM' || code === 'EACCES')
    return new PrivilegeError(`${error.message}: lb4 needs CAP_NET_RAW and CAP_NET_ADMIN; run it as root`, { cause: error });
  if (code === 'EAFNOSUPPORT' || code === 'ENOPROTOOPT')
    return new KernelFeatureError(`${error.message}: this kernel lacks AF_PACKET (CONFIG_PACKET)`, { cause: error });
  if (code === 'ERR_PCAP_PACKAGES') return new PcapPackagesError(error.message, { cause: error });
  return addonError(error) ?? (code === undefined ? error : new FailureError(error.message, { cause: error }));
}

function placed(error: Error, file: string, message: string): string {
  const { key } = error as { readonly key?: readonly string[] };
  return key === undefined ? message : sayOf(file, key, message);
}

function explainBind(cause: Error, code: string | undefined, say: (message: string) => string): Error {
  if (code === 'EACCES') {
    const means = 'run it as root, or choose a port from net.ipv4.ip_unprivileged_port_start on';
    return new PrivilegeError(say(`${cause.message}: lb4 needs CAP_NET_BIND_SERVICE; ${means}`), { cause });
  }
  if (code === 'EADDRNOTAVAIL') {
    const ours = addresses(['IPv4', 'IPv6']);
    return new ListenAddressError(say(`${cause.message}: not an address of this host; interfaces and addresses: ${ours}`), { cause });
  }
  const who = code === 'EADDRINUSE' ? '; ss -ltnp tells who has it' : '';
  return new FailureError(say(cause.message + who), { cause });
}
