import type { Backend, Config, Frontend } from '../config/model.ts';
import { type ForwardingKeys, factsOf, holdsVip, hopsIn, MODES, type PacketMode, wrapping } from '../config/modes.ts';
import { sourcesOf } from '../config/sources.ts';
import { routeOnce } from '../io/route-once.ts';
import { formatAddress, parseAddress } from '../packet/address.ts';
import { CLIENTS, type ReturnRulesInput, type RulesInput, type ServerRulesInput, type TunnelInput } from './types.ts';

/** The rules of a configuration: every frontend, and every server's way back to the addresses that face it. */
export function rulesFor(config: Config, mode: PacketMode): RulesInput {
  const frontends = config.frontends.map(({ listen, backend: { protocol } }) => ({ address: listen.ip, port: listen.port, protocol }));
  const returns = config.frontends.flatMap((frontend) => {
    const { servers, protocol } = frontend.backend;
    const sources = [...sourcesOf(frontend), ...(answersClients(mode, frontend.backend) ? [CLIENTS] : [])];
    // Servers of weight 0 too: they still have connections.
    return servers.flatMap(({ addr }) => sources.map((source) => ({ server: addr.ip, serverPort: addr.port, source, protocol })));
  });
  return { mode, frontends, returns, echoes: echoesOf(config.frontends) };
}

/** Addresses whose pings lb4 answers itself. */
export function echoesOf(frontends: readonly Frontend[]): string[] {
  return [...new Set(frontends.filter(({ icmpEcho }) => icmpEcho === 'balancer').map(({ listen }) => listen.ip))];
}

/** Whether servers of a backend answer clients through this host (nat = "destination"). */
export function answersClients(mode: PacketMode, backend: ForwardingKeys): boolean {
  const { directions, source } = factsOf(mode, backend);
  // Between interfaces all of it passes by itself.
  return MODES[mode].ownsAddresses && directions === 2 && source === 'client';
}

/** The rules of a server: it answers for every frontend whose backend has its address. The file must suit DSR (`loadConfig`). */
export function serverRulesFor(config: Config, mode: PacketMode, server: string): ServerRulesInput {
  const rules: ServerRulesInput = { server, rewrites: [], loopback: [] };
  const tunnels: TunnelInput[] = [];
  for (const { listen, backend } of config.frontends) {
    for (const { addr } of backend.servers.filter(({ addr }) => addr.ip === server)) {
      const around = wrapping(mode, backend);
      if (around !== undefined) tunnels.push(tunnelTo(listen.ip, backend, around));
      else if (holdsVip(mode, backend)) rules.loopback.push(listen.ip);
      else rules.rewrites.push({ port: addr.port, vip: listen.ip, protocol: backend.protocol });
    }
  }
  return tunnels.length === 0 ? rules : { ...rules, tunnels, hops: hopsFrom(config, mode, server) };
}

/** Servers that the tables of a server's backends can name. Undefined: some are found while lb4 runs, so nobody knows them all. */
function hopsFrom({ backends }: Config, mode: PacketMode, server: string): string[] | undefined {
  const own = backends.filter((backend) => {
    return backend.glb !== undefined && wrapping(mode, backend) !== undefined && backend.servers.some(({ addr }) => addr.ip === server);
  });
  if (own.some(({ templates }) => templates !== undefined)) return undefined;
  return [...new Set(own.flatMap(({ servers }) => servers.map(({ addr }) => addr.ip)))];
}

/** Bytes of a hop in GUE's list. Room for one is left, which GLB's tables have; while they migrate to other fields they have three. */
const HOP_BYTES = 4;

function tunnelTo(vip: string, { tunnel, glb }: Pick<Backend, 'tunnel' | 'glb'>, around: number): TunnelInput {
  const { port } = tunnel ?? { port: 0 };
  const hops = glb === undefined ? 1 : hopsIn(glb);
  return { vip, port, overhead: port === 0 ? around : around + hops * HOP_BYTES };
}

/** The same of a server that answers clients through this host, which it reaches by the address that this host would speak to it from. */
export function returnRulesFor(config: Config, mode: PacketMode, server: string): ReturnRulesInput {
  const backends = config.backends.filter((backend) => answersClients(mode, backend));
  const ports = backends.flatMap(({ servers, protocol }) => {
    return servers.filter(({ addr }) => addr.ip === server).map(({ addr: { port } }) => ({ port, protocol }));
  });
  return { server, gateway: addressTowards(server), ports };
}

/** Undefined where there is no way there. */
function addressTowards(server: string): string | undefined {
  const { source } = routeOnce(parseAddress(server));
  return source === 0 ? undefined : formatAddress(source);
}

/** The addresses of all servers, each once, in the file's order. */
export function serverAddresses(config: Config): string[] {
  return [...new Set(config.backends.flatMap(({ servers }) => servers.map(({ addr }) => addr.ip)))];
}
