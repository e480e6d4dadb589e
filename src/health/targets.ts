import { type Backend, type HealthCheckType, kindsOf, type SendProxy, type Server } from '../config/model.ts';
import { payloadOf } from '../config/payload.ts';
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
 * A server of the configuration as a target; undefined: it is not to be checked.
 * @param id the caller's name for it
 */
export function targetFor(id: string, backend: Backend, server: Server, reach: Reach = {}): Target | undefined {
  const { sourceAddress, otherSources, sendProxy } = reach;
  const { jitter, intervalMs, timeoutMs, rise, fall, port } = backend.healthCheck;
  const { ip: address, port: serverPort } = server.addr;
  const [check, ...also] = kindsOf(backend.healthCheck).flatMap((type) => settingsFor(type, backend, server, sendProxy) ?? []);
  // In no row, it may be switched off.
  if (check === undefined || server.state === 'inactive') return undefined;
  const where = port === undefined ? { port: serverPort } : { port, serverPort, asked: `at port ${port}` };
  const all = { check, ...(also.length > 0 && { also }) };
  return { id, address, ...where, sourceAddress, otherSources, ...all, jitter, intervalMs, timeoutMs, rise, fall };
}

function settingsFor(
  type: HealthCheckType,
  { name, tunnel, healthCheck: { http, command, udp } }: Backend,
  server: Server,
  sendProxy: SendProxy | undefined,
): CheckSettings | undefined {
  switch (type) {
    case 'tcp':
      return { type };
    case 'http':
      return { type, ...http, sendProxy };
    case 'exec':
      return { type, command, env: { LB4_BACKEND: name, LB4_SERVER: server.name } };
    case 'udp':
      return { type, send: payloadOf(udp.send), expect: udp.expect === undefined ? undefined : payloadOf(udp.expect) };
    case 'gue':
    case 'ipip':
      return tunnel && { type, ...tunnel };
    case 'none':
      return undefined;
  }
}
