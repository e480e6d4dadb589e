/** Flows by the names that operators give, and in those that they know. */
import { joinPort, readAddress, readNetwork } from '../config/address.ts';
import type { FlowRow } from '../control/flow-rows.ts';
import { type FlowFilter, OrderError } from '../control/orders.ts';
import type { CarriedFlow } from '../engine/flow-list.ts';
import { didYouMean } from '../suggest.ts';
import type { CarriedQuery } from './data-path.ts';
import type { Plan } from './plan.ts';
import { serverName, serversNamed } from './server-names.ts';
import { labelOf } from './view.ts';

/** Throws OrderError for names that are none, and for what is no address. */
export function queryOf({ server, client, frontend }: FlowFilter, plan: Plan): CarriedQuery {
  return {
    servers: server === undefined ? undefined : new Set(serversNamed(server, plan).map((one) => one.server.index)),
    frontends: frontend === undefined ? undefined : frontendsNamed(frontend, plan),
    client: client === undefined ? undefined : clientIn(client),
  };
}

/** By their indexes. */
export interface Names {
  readonly frontends: ReadonlyMap<number, string>;
  readonly servers: ReadonlyMap<number, string>;
}

export function namesIn({ frontends, backends }: Plan): Names {
  return {
    frontends: new Map(frontends.map(({ index, frontend }) => [index, labelOf(frontend)])),
    servers: new Map(backends.flatMap(({ backend, servers }) => servers.map((one) => [one.index, serverName(backend, one)] as const))),
  };
}

export function flowRows(flows: readonly CarriedFlow[], plan: Plan): FlowRow[] {
  const names = namesIn(plan);
  return flows.map(({ protocol, client, to, frontend, server, via, address, state, bytesTx, bytesRx, idleMs }) => ({
    protocol,
    client,
    frontend: names.frontends.get(frontend) ?? null,
    to,
    server: names.servers.get(server) ?? null,
    via: via ?? null,
    address: address ?? null,
    state,
    bytes_tx: bytesTx,
    bytes_rx: bytesRx,
    idle: Math.floor(idleMs / 1000),
  }));
}

/** Indexes of all that have that name. Throws OrderError where there is none. */
export function frontendsNamed(name: string, { frontends }: Plan): ReadonlySet<number> {
  const found = frontends.filter(({ frontend }) => labelOf(frontend) === name);
  if (found.length > 0) return new Set(found.map(({ index }) => index));
  const names = new Set(frontends.map(({ frontend }) => labelOf(frontend)));
  throw new OrderError('unknown', `there is no frontend "${name}"${didYouMean(name, names) || '; see lb4 list'}`);
}

function clientIn(text: string): NonNullable<CarriedQuery['client']> {
  if (text.includes('/')) {
    const network = readNetwork(text);
    if ('problem' in network) throw noClient(text);
    return { ip: text.replace(/\/.*/, ''), bits: network.bits, port: undefined };
  }
  const [place, host] = [readAddress(text), readAddress(joinPort(text, 1))];
  const address = 'problem' in place ? host : place;
  if ('problem' in address) throw noClient(text);
  return { ip: address.ip, bits: address.family === 6 ? 128 : 32, port: address === place ? address.port : undefined };
}

function noClient(text: string): OrderError {
  return new OrderError(
    'wrong',
    `client: "${text}"; allowed: an address, "192.0.2.1", with a port or not, or an IPv4 network, "192.0.2.0/24"`,
  );
}
