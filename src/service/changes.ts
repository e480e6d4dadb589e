/** What a reload changes, in the file's words: for the log, server by server. */
import { type Backend, type Config, type ConnectionLog, type Control, type Frontend, type Inline, kindsOf } from '../config/model.ts';
import { needsRestart } from '../config/restart.ts';
import type { Logger } from '../log.ts';
import { lookUp } from '../look-up.ts';
import { type BackendServer, frontendKey, serverKey } from './members.ts';

/** A line of the log. */
export interface ChangeLine {
  readonly message: string;
  /** Who has changed; of each key `before → after`. */
  readonly fields: Readonly<Record<string, string>>;
}

/** More than these nobody reads: the rest is a number. */
const MOST = 100;

/**
 * Says each change, and returns them.
 * @param leaves of whoever is gone
 */
export function tellChanges(before: Config, after: Config, log: Pick<Logger, 'info'>, leaves?: string): readonly ChangeLine[] {
  const lines = changesBetween(before, after, leaves);
  for (const { message, fields } of lines.slice(0, MOST)) log.info(fields, message);
  if (lines.length > MOST) log.info({ changes: lines.length - MOST }, 'and more changes');
  return lines;
}

/** For who reads no log: `server changed: web / a / 10.0.0.1:80: weight 1 → 2`. */
export function changeText({ message, fields: { frontend, backend, server, ...keys } }: ChangeLine): string {
  const changes = Object.entries(keys).map(([key, value]) => `${key} ${value}`);
  return [message, server ?? backend ?? frontend, changes.join(', ')].filter((part) => part !== undefined && part !== '').join(': ');
}

/** Frontends, backends, servers, then the rest. What only a restart changes is not among it. */
export function changesBetween(before: Config, after: Config, leaves = 'leaves the file'): ChangeLine[] {
  return [
    ...changesOf('frontend', frontendsOf(before), frontendsOf(after), `${leaves}: it drains`),
    ...changesOf('backend', backendsOf(before), backendsOf(after), leaves),
    ...changesOf('server', serversOf(before), serversOf(after), `${leaves}: it drains`),
    ...settingsChange(before, after),
  ];
}

/** By who it is: its keys as the file has them. */
type Things = ReadonlyMap<string, ReadonlyMap<string, string>>;

function changesOf(what: 'frontend' | 'backend' | 'server', before: Things, after: Things, leaves: string): ChangeLine[] {
  const gone = [...before.keys()]
    .filter((name) => !after.has(name))
    .map((name) => ({ message: `${what} ${leaves}`, fields: { [what]: name } }));
  const others = [...after].flatMap(([name, keys]): ChangeLine[] => {
    const last = before.get(name);
    if (last === undefined) return [{ message: `${what} added`, fields: { [what]: name } }];
    const fields = difference(last, keys);
    return Object.keys(fields).length === 0 ? [] : [{ message: `${what} changed`, fields: { [what]: name, ...fields } }];
  });
  return [...gone, ...others];
}

function difference(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): Record<string, string> {
  const keys = [...new Set([...before.keys(), ...after.keys()])].filter((key) => before.get(key) !== after.get(key));
  return Object.fromEntries(keys.map((key) => [key, `${shown(key, before.get(key))} → ${shown(key, after.get(key))}`]));
}

const UNSET = 'unset';

function frontendsOf({ frontends }: Config): Things {
  // Another address is another frontend.
  const keysOf = ({ name: _name, listen: _listen, backend, ...keys }: Frontend) => flat({ ...keys, backend: backend.name }, '_');
  return new Map(frontends.map((frontend) => [frontendKey(frontend), keysOf(frontend)]));
}

function backendsOf({ backends }: Config): Things {
  const keysOf = ({
    name: _name,
    servers: _servers,
    templates: _templates,
    protocol: _protocol,
    healthCheck,
    tunnel,
    ...keys
  }: Backend) => {
    const { also: _also, ...check } = healthCheck;
    const outer = { guePort: tunnel?.port || undefined, sourceAddr: tunnel?.source };
    return flat({ ...keys, ...outer, healthCheck: { ...check, type: kindsOf(healthCheck) } }, '_');
  };
  return new Map(backends.map((backend) => [backend.name, keysOf(backend)]));
}

function serversOf({ backends }: Config): Things {
  const keysOf = ({ name: _name, addr: _addr, ...keys }: BackendServer['server']) => flat(keys, '_');
  return new Map(backends.flatMap((backend) => backend.servers.map((server) => [serverKey(backend, server), keysOf(server)] as const)));
}

function settingsChange(before: Config, after: Config): ChangeLine[] {
  const [last, keys] = [before, after].map((config) => {
    return new Map([...flat(settingsOf(config), '.')].filter(([key]) => !needsRestart(key)));
  });
  const fields = difference(last ?? new Map(), keys ?? new Map());
  return Object.keys(fields).length === 0 ? [] : [{ message: 'settings changed', fields }];
}

function settingsOf({ stats, control, connectionLog, inline, passthrough, proxy, nameservers, holdMs }: Config): object {
  return {
    stats: stats?.listen.text,
    control: controlKeys(control),
    connectionLog: connectionLog && connectionLogKeys(connectionLog),
    inline: inline && inlineKeys(inline),
    passthrough,
    proxy,
    discovery: { nameservers, holdMs },
  };
}

function controlKeys({ socket, tcp, dashboard }: Control): object {
  const { token, tokenFile } = tcp ?? dashboard ?? {};
  const mode = socket && `0${socket.mode.toString(8)}`;
  const where = { address: tcp?.listen.text, dashboard: dashboard === undefined ? 'read' : 'write' };
  return { enabled: socket !== undefined, ...socket, mode, ...where, token, tokenFile };
}

function connectionLogKeys({ target, ...keys }: ConnectionLog): object {
  const place = 'path' in target ? target.path : 'address' in target ? target.address.text : undefined;
  return { to: target.to, ...(target.to !== 'journal' && { [target.to]: place }), ...keys };
}

function inlineKeys({ backend, frontends }: Inline): object {
  const clientsOf = ({ clients }: Inline['frontends'][number]) => clients.map(({ address, bits }) => `${address}/${bits}`).join(' ');
  return { backend, frontends: frontends.map((one) => [one.name, clientsOf(one)].filter((text) => text !== '').join(': ')) };
}

/** `healthCheck.intervalMs` of 5000 is `health_check_interval` of `5 s`. */
function flat(value: object, joint: '_' | '.', path: readonly string[] = []): Map<string, string> {
  const entries = Object.entries(value).flatMap(([name, inner]): [string, string][] => {
    const here = [...path, name];
    if (inner === undefined) return [];
    if (typeof inner === 'object' && inner !== null && !Array.isArray(inner)) return [...flat(inner as object, joint, here)];
    return [[keyOf(here, joint), textOf(name, inner)]];
  });
  return new Map(entries);
}

/** Levels of the model that a file's keys do not have. */
const WITHIN: ReadonlySet<string> = new Set(['type', 'http', 'udp', 'glb', 'summary']);

function keyOf(path: readonly string[], joint: string): string {
  const words = path.filter((word) => !WITHIN.has(word)).map((word) => word.replace(/(Ms|Us)$/, ''));
  return words.map((word) => word.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)).join(joint);
}

/** Whose values nobody is to read in the log, and how much of each is enough to know which one it is. */
const SECRETS: Readonly<Record<string, number>> = { hash_key: 4, seed: 4, 'control.token': 0 };

function shown(key: string, text: string | undefined): string {
  if (text === undefined) return UNSET;
  const kept = lookUp(SECRETS, key);
  return kept === undefined ? text : `${text.slice(0, kept)}…`;
}

function textOf(name: string, value: unknown): string {
  if (name.endsWith('Ms')) return `${Number(value) / 1000} s`;
  return Array.isArray(value) ? value.map((one) => (Array.isArray(one) ? one.join('-') : String(one))).join(', ') || UNSET : String(value);
}
