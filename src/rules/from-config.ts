import type { Config } from '../config/model.ts';
import type { RulesInput, RulesMode } from './types.ts';

/** The rules of a configuration: every frontend, and every server's way back to the address that faces it. */
export function rulesFor(config: Config, mode: RulesMode): RulesInput {
  const frontends = config.frontends.map(({ listen }) => ({ address: listen.ip, port: listen.port }));
  const returns = config.frontends.flatMap(({ listen, backend }) =>
    // Servers of weight 0 too: they still have connections.
    backend.servers.map(({ addr }) => ({ server: addr.ip, serverPort: addr.port, source: listen.ip })),
  );
  return { mode, frontends, returns: mode === 'dsr' ? [] : returns };
}
