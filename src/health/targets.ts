import type { Backend, SendProxy, Server } from '../config/model.ts';
import type { CheckSettings, Target } from './check.ts';

/** How the mode reaches servers; the file alone does not say. */
export interface Reach {
  /** Where checks leave from; undefined: the kernel's choice. */
  readonly sourceAddress?: string | undefined;
  /** Where they leave from when that is no address of this host any more. */
  readonly otherSources?: readonly string[] | undefined;
  /** The PROXY protocol header that servers get before a client's data, if any. */
  readonly sendProxy?: SendProxy | undefined;
}

/**
 * A server of the configuration as a target.
 * @param id the caller's name for it
 */
export function targetFor(id: string, backend: Backend, server: Server, { sourceAddress, otherSources, sendProxy }: Reach = {}): Target {
  const { jitter, intervalMs, timeoutMs, rise, fall } = backend.healthCheck;
  const { ip: address, port } = server.addr;
  const check = settingsFor(backend, server, sendProxy);
  return { id, address, port, sourceAddress, otherSources, check, jitter, intervalMs, timeoutMs, rise, fall };
}

function settingsFor(
  { name, healthCheck: { type, http, command } }: Backend,
  server: Server,
  sendProxy: SendProxy | undefined,
): CheckSettings {
  switch (type) {
    case 'tcp':
      return { type };
    case 'http':
      return { type, ...http, sendProxy };
    case 'exec':
      return { type, command, env: { LB4_BACKEND: name, LB4_SERVER: server.name } };
  }
}
