import type { Backend, Server } from '../config/model.ts';
import type { CheckSettings, Target } from './check.ts';

/**
 * A server of the configuration as a target.
 * @param id the caller's name for it
 * @param sourceAddress where checks leave from; undefined: the kernel's choice
 */
export function targetFor(id: string, backend: Backend, server: Server, sourceAddress?: string): Target {
  const { jitter, intervalMs, timeoutMs, rise, fall } = backend.healthCheck;
  const { ip: address, port } = server.addr;
  return { id, address, port, sourceAddress, check: settingsFor(backend, server), jitter, intervalMs, timeoutMs, rise, fall };
}

function settingsFor({ name, healthCheck: { type, http, command } }: Backend, server: Server): CheckSettings {
  switch (type) {
    case 'tcp':
      return { type };
    case 'http':
      return { type, ...http };
    case 'exec':
      return { type, command, env: { LB4_BACKEND: name, LB4_SERVER: server.name } };
  }
}
