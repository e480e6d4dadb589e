/**
 * A frontend of the file is one service or several, one a protocol, and its backend as many: the rest of the program knows each of these
 * as a frontend or backend with a protocol of its own.
 */

import { protocols } from '../../flow/protocols.ts';
import type { TransportProtocol } from '../model.ts';

/** Those that services are of, in the order in which the ones of a name stand. */
const SERVICES = ['tcp', 'udp', 'icmp'] as const;
export type ServiceProtocol = (typeof SERVICES)[number];

/** What a file calls them; `all`: one of each. */
const STANDS_FOR = { tcp: ['tcp'], udp: ['udp'], icmp: ['icmp'], all: SERVICES } as const satisfies Record<
  string,
  readonly ServiceProtocol[]
>;
export type FileProtocol = keyof typeof STANDS_FOR;

/** Those that a file may name by now. */
export const FILE_PROTOCOLS: readonly FileProtocol[] = ['tcp', 'udp', 'icmp', 'all'];

/** A service without ports: an address alone is its endpoint. */
export const PING = 'icmp' satisfies ServiceProtocol;

/** @param protocol the value of a frontend's key; what is no good value counts as none */
export function protocolsOf(protocol: unknown): readonly ServiceProtocol[] {
  return typeof protocol === 'string' && Object.hasOwn(STANDS_FOR, protocol) ? STANDS_FOR[protocol as FileProtocol] : STANDS_FOR.tcp;
}

/** The protocol of that name. */
export function transportOf(name: ServiceProtocol): TransportProtocol {
  const { number } = protocols.find((one) => one.name === name) as TransportProtocol;
  return { name, number };
}

/** Whether it is pings alone that a frontend takes. */
export function isPingAlone(protocols: readonly ServiceProtocol[]): boolean {
  return protocols.length === 1 && protocols[0] === PING;
}

/** What a service of a frontend or backend is called: that of TCP as the file has it, others `web/udp`. */
export function serviceName(label: string, protocol: string): string {
  return protocol === 'tcp' ? label : `${label}/${protocol}`;
}

/** As {@link serviceName}; the label beside it where it differs. */
export function namesOf(label: string, protocol: string): { readonly name: string; readonly label?: string } {
  const name = serviceName(label, protocol);
  return name === label ? { name } : { name, label };
}

interface FileFrontend {
  readonly backend: string;
  readonly protocol: FileProtocol;
  /** Of the address that it listens on. */
  readonly ip: string;
  /** Pings cannot go to its servers: lb4 answers them. */
  readonly answersPings: boolean;
}

/**
 * The services of each frontend. An address has one for pings at most: that of a frontend of `icmp`, else of the first of `all`.
 * @param frontends in the file's order
 */
export function servicesOf(frontends: readonly FileFrontend[]): readonly (readonly ServiceProtocol[])[] {
  const taken = new Set(frontends.filter(({ protocol }) => isPingAlone(protocolsOf(protocol))).map(({ ip }) => ip));
  return frontends.map(({ protocol, ip, answersPings }) => {
    const protocols = protocolsOf(protocol);
    if (isPingAlone(protocols) || !protocols.includes(PING)) return protocols;
    const isItsOwn = !answersPings && !taken.has(ip);
    if (isItsOwn) taken.add(ip);
    return isItsOwn ? protocols : protocols.filter((one) => one !== PING);
  });
}

/** The protocols of each backend by its name: those of its frontends; of one that no frontend uses, TCP. */
export function backendProtocols(
  names: readonly string[],
  frontends: readonly FileFrontend[],
  services: readonly (readonly ServiceProtocol[])[],
): ReadonlyMap<string, readonly ServiceProtocol[]> {
  const used = new Map(names.map((name) => [name, new Set<ServiceProtocol>()]));
  for (const [i, { backend }] of frontends.entries()) for (const protocol of services[i] ?? []) used.get(backend)?.add(protocol);
  return new Map([...used].map(([name, protocols]) => [name, protocols.size === 0 ? STANDS_FOR.tcp : inOrder(protocols)]));
}

function inOrder(protocols: ReadonlySet<ServiceProtocol>): readonly ServiceProtocol[] {
  return SERVICES.filter((protocol) => protocols.has(protocol));
}
