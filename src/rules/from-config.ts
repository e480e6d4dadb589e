import type { Config, Frontend } from '../config/model.ts';
import { holdsVip, type PacketMode } from '../config/modes.ts';
import { sourcesOf } from '../config/sources.ts';
import type { RulesInput, ServerRulesInput } from './types.ts';

/** The rules of a configuration: every frontend, and every server's way back to the addresses that face it. */
export function rulesFor(config: Config, mode: PacketMode): RulesInput {
  const frontends = config.frontends.map(({ listen, backend: { protocol } }) => ({ address: listen.ip, port: listen.port, protocol }));
  const returns = config.frontends.flatMap((frontend) => {
    const { servers, protocol } = frontend.backend;
    // Servers of weight 0 too: they still have connections.
    return servers.flatMap(({ addr }) =>
      sourcesOf(frontend).map((source) => ({ server: addr.ip, serverPort: addr.port, source, protocol })),
    );
  });
  return { mode, frontends, returns, echoes: echoesOf(config.frontends) };
}

/** Addresses whose pings lb4 answers itself. */
export function echoesOf(frontends: readonly Frontend[]): string[] {
  return [...new Set(frontends.filter(({ icmpEcho }) => icmpEcho === 'balancer').map(({ listen }) => listen.ip))];
}

/** The rules of a server: it answers for every frontend whose backend has its address. The file must suit DSR (`loadConfig`). */
export function serverRulesFor(config: Config, mode: PacketMode, server: string): ServerRulesInput {
  const rules: ServerRulesInput = { server, rewrites: [], loopback: [] };
  for (const { listen, backend } of config.frontends) {
    for (const { addr } of backend.servers.filter(({ addr }) => addr.ip === server)) {
      if (holdsVip(mode, backend)) rules.loopback.push(listen.ip);
      else rules.rewrites.push({ port: addr.port, vip: listen.ip, protocol: backend.protocol });
    }
  }
  return rules;
}

/** The addresses of all servers, each once, in the file's order. */
export function serverAddresses(config: Config): string[] {
  return [...new Set(config.backends.flatMap(({ servers }) => servers.map(({ addr }) => addr.ip)))];
}
