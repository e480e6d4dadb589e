/** What the rules of a fan-out are made of, from a configuration. */
import { isAny } from '../config/address.ts';
import type { Config, FanOut } from '../config/model.ts';
import { ConfigError } from '../errors.ts';
import type { FanOutDialect, FanOutInput } from './types.ts';

/** All processes count as up. */
export function fanOutsFor({ fanOut = [] }: Config): FanOutInput[] {
  return fanOut.map((one) =>
    fanOutFor(
      one,
      one.ports.map((port) => ({ ...port, isUp: true })),
    ),
  );
}

/** With what is known of its processes. */
export function fanOutFor({ listen, balance, local, protocol }: FanOut, ports: FanOutInput['ports']): FanOutInput {
  const [address, ...others] = listen;
  const at = {
    ip: address === undefined || isAny(address) ? undefined : address.ip,
    family: others.length > 0 ? undefined : address?.family,
    port: address?.port ?? 0,
  };
  return { listen: at, ports, balance, local, protocol: protocol.name };
}

/** Throws ConfigError where a fan-out asks for what the dialect has not. */
export function assertDialect({ file, fanOut = [] }: Config, dialect: FanOutDialect): void {
  const hashing = dialect === 'iptables' ? fanOut.filter(({ balance }) => balance === 'source') : [];
  if (hashing.length === 0) return;
  const message =
    '"source": iptables has no match that hashes; needed: "roundrobin" or "random", or the dialect nft (apt-get install nftables)';
  throw new ConfigError(
    hashing.map(({ name }) => ({ severity: 'error', file, position: undefined, path: `fan_out.${name}.balance`, message })),
  );
}
