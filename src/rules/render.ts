import { readFileSync } from 'node:fs';
import { isIPv4, isIPv6 } from 'node:net';
import type { TransportProtocol } from '../config/model.ts';
import { isPacketMode, MODES, type PacketMode } from '../config/modes.ts';
import { CLIENT_PORTS, rangeText } from '../layout/ports.ts';
import { ownFile } from '../own-files.ts';
import { GUE_PORTS_MAX, gueObject } from './gue-object.ts';
import {
  CLIENTS,
  DIALECTS,
  type Dialect,
  type Form,
  PING,
  type ReturnRulesInput,
  type RulesInput,
  type ServerRulesInput,
  type TunnelInput,
  UNWRAPS,
  type Unwrap,
} from './types.ts';

const BEGIN = /^# >>> lb4 configuration.*$/m;
const END = /^# <<< lb4 configuration$/m;
/** How a template takes in the functions that all of them share. */
const INCLUDE = /^# shellcheck source=.*\n\. "\$\{0%\/\*\}\/(\w+\.sh)".*\n/gm;

/** The characters that a setting may have: nothing that means anything to sh inside single quotes, or to printf. */
const SAFE = /^[A-Za-z0-9_.:/>\n-]*$/;
/** The one that scripts leave unsaid: rules that stand on hosts, and their comments, are spelled so. */
const UNSAID = 'tcp';
/** Rules as tools take them. */
const RULES = /^[A-Za-z0-9_.:/=!,;{}" \n-]*$/;
/** Settings that may have others: WHY, a text for people, blanks, OBJECT all of base64, and rules what they are spelled with. */
const OTHERS: Readonly<Record<string, RegExp>> = {
  WHY: /^[A-Za-z0-9.:=_,; -]*$/,
  OBJECT: /^[A-Za-z0-9+/=\n]*$/,
  TABLE: RULES,
  RULES,
};

/**
 * Templates as they were when they were first asked for, which a lb4 in a packet mode does as it starts: what replaces or removes
 * the package later, an upgrade say, changes nothing for one that runs.
 */
const templates = new Map<string, string>();

/**
 * The balancer's firewall script for `input`: POSIX sh, run as `sh FILE install|remove|status [--dry-run]`.
 * @throws RangeError when an address is not dotted IPv4, a port not in 1–65535, or a protocol no word: only such reach the shell.
 */
export function renderBalancerScript(input: RulesInput): string {
  const mode = modeWithRules(input.mode);
  const frontends = input.frontends.filter(hasPorts).map(({ address, port, protocol }) => endpoint(address, port, protocol));
  const pinged = input.frontends.filter((one) => !hasPorts(one)).map(({ address }) => address);
  const returns = MODES[mode].directions === 2 ? input.returns : [];
  const pings = returns.filter((one) => !hasPorts(one)).map(({ server, source }) => `${ipv4(server)}>${receiver(source)}`);
  const tuples = returns
    .filter(hasPorts)
    .map(({ server, serverPort, source, protocol }) => `${endpoint(server, serverPort, protocol)}>${receiver(source)}`);
  const form = { FORM: formName(input.form), WHY: input.form?.why ?? '' };
  return renderTemplate('balancer.sh', {
    MODE: mode,
    FRONTENDS: list(frontends),
    RETURNS: list(tuples),
    ECHOES: list([...pinged, ...(input.echoes ?? [])].map(ipv4)),
    PINGS: list(pings),
    CLIENT_PORTS: rangeText(CLIENT_PORTS),
    ...form,
  });
}

/**
 * A DSR server's script for `input`, run in the same way.
 * @throws RangeError as above, and for an unknown dialect; FailureError where this lb4 lacks the program that it would carry.
 */
export function renderServerScript(input: ServerRulesInput): string {
  const rewrites = input.rewrites.map(({ port, vip, protocol }) => `${portWord(port, protocol)}>${ipv4(vip)}`);
  return renderTemplate('dsr-server.sh', {
    SERVER: ipv4(input.server),
    REWRITES: list(rewrites),
    LOOPBACK: list([...input.loopback, ...tunneled4(input)].map(ipv4)),
    DIALECT: dialect(input.dialect),
    PROTOCOLS: list(input.rewrites.map(({ protocol }) => numbered(protocol))),
    ...tunnelSettings(input),
  });
}

/** Their addresses stand on the loopback as those of `l2` do; those of IPv6 the script treats apart. */
function tunneled4({ tunnels = [] }: ServerRulesInput): string[] {
  return tunnels.filter(({ vip }) => isIPv4(vip)).map(({ vip }) => vip);
}

function tunnelSettings({ server, tunnels = [], hops, unwrap }: ServerRulesInput): Record<string, string> {
  const ports = [...new Set(tunnels.filter(({ port }) => port !== 0).map(({ port }) => portOf(port)))];
  if (ports.length > GUE_PORTS_MAX) throw new RangeError(`more ports of GUE than ${GUE_PORTS_MAX} at ${server}: ${ports.join(', ')}`);
  const vips = [...new Set(tunnels.filter(({ port }) => port !== 0).map(({ vip }) => vip))];
  const object = ports.length === 0 || unwrap === 'fou' ? undefined : gueObject({ server, ports, vips, hops: hops?.map(ipv4) });
  return {
    TUNNELED: list(overheads(tunnels)),
    GUE_PORTS: list(ports.map(String)),
    IPIP: tunnels.some(({ port }) => port === 0) ? 'yes' : '',
    UNWRAP: unwrapping(unwrap),
    PROGRAM: object?.name ?? '',
    OBJECT: object?.text ?? '',
  };
}

/** `VIP>BYTES`, of an address in several tunnels the largest. */
function overheads(tunnels: readonly TunnelInput[]): string[] {
  const largest = new Map<string, number>();
  for (const { vip, overhead } of tunnels) largest.set(vip, Math.max(overhead, largest.get(vip) ?? 0));
  return [...largest].map(([vip, overhead]) => `${isIPv6(vip) ? vip : ipv4(vip)}>${overhead}`);
}

/**
 * The script of a balancer between interfaces, run in the same way.
 * @throws RangeError for a name that is none of an interface.
 */
export function renderInlineScript(ports: readonly string[]): string {
  return renderTemplate('inline.sh', { PORTS: list(ports.map(interfaceName)) });
}

/**
 * The script of a server that answers clients through the balancer, run in the same way.
 * @throws RangeError as above
 */
export function renderReturnScript({ server, gateway, ports }: ReturnRulesInput): string {
  return renderTemplate('nat-server.sh', {
    SERVER: ipv4(server),
    PORTS: list(ports.map(({ port, protocol }) => (protocol.name === PING ? `0/${PING}` : portWord(port, protocol)))),
    GATEWAY: gateway === undefined ? '' : ipv4(gateway),
  });
}

/**
 * A template of iptables/ with `settings` as shell assignments between its two configuration marks, and the texts of common.sh and
 * other parts in place of the lines that read them: the script stands for itself.
 * @throws RangeError when a value has a character outside letters, digits and `_.:/>-`, or outside what the settings of OTHERS may have.
 */
export function renderTemplate(name: string, settings: Record<string, string>): string {
  const template = templates.get(name) ?? readTemplate(name);
  templates.set(name, template);
  const begin = BEGIN.exec(template);
  const end = END.exec(template);
  if (begin === null || end === null) throw new Error(`iptables/${name} has lost its configuration marks`);
  const lines = Object.entries(settings).map(([key, value]) => `${key}='${safe(value, OTHERS[key] ?? SAFE)}'\n`);
  const head = template.slice(0, begin.index + begin[0].length + 1);
  return head + lines.join('') + template.slice(end.index);
}

function readTemplate(name: string): string {
  return readFileSync(ownFile('iptables', name), 'utf8').replaceAll(INCLUDE, (_, part: string) => {
    return readFileSync(ownFile('iptables', part), 'utf8').replace(/^# shellcheck .*\n/m, '');
  });
}

function hasPorts({ protocol }: { readonly protocol: TransportProtocol }): boolean {
  return protocol.name !== PING;
}

/** One word a line, none twice: two frontends may share a backend. */
function list(words: string[]): string {
  return words.length === 0 ? '' : `\n${[...new Set(words)].join('\n')}\n`;
}

function endpoint(address: string, port: number, protocol: TransportProtocol): string {
  return `${ipv4(address)}:${portWord(port, protocol)}`;
}

/** `80`, `53/udp`. */
function portWord(port: number, { name }: TransportProtocol): string {
  return name === UNSAID ? `${portOf(port)}` : `${portOf(port)}/${protocolName(name)}`;
}

/** `udp:17` */
function numbered({ name, number }: TransportProtocol): string {
  if (!Number.isInteger(number) || number < 1 || number > 255) throw new RangeError(`not a protocol's number: ${number}`);
  return `${protocolName(name)}:${number}`;
}

function interfaceName(name: string): string {
  if (!/^[A-Za-z0-9_.:-]{1,15}$/.test(name)) throw new RangeError(`not an interface's name: ${JSON.stringify(name)}`);
  return name;
}

function protocolName(name: string): string {
  if (!/^[a-z]+$/.test(name)) throw new RangeError(`not a protocol's name: ${JSON.stringify(name)}`);
  return name;
}

function portOf(port: number): number {
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw new RangeError(`not a port: ${port}`);
  return port;
}

/** Whom a server answers. */
function receiver(source: string): string {
  return source === CLIENTS ? CLIENTS : ipv4(source);
}

function ipv4(address: string): string {
  if (!isIPv4(address)) throw new RangeError(`not an IPv4 address: ${JSON.stringify(address)}`);
  return address;
}

function modeWithRules(value: string): PacketMode {
  if (!isPacketMode(value)) throw new RangeError(`not a mode with rules: ${JSON.stringify(value)}`);
  return value;
}

function formName(form: Form | undefined): string {
  const name = form?.name ?? 'raw';
  if (name !== 'raw' && name !== 'input') throw new RangeError(`not a form: ${JSON.stringify(name)}`);
  return name;
}

function dialect(value: Dialect | undefined): string {
  if (value !== undefined && !DIALECTS.includes(value)) throw new RangeError(`not a dialect: ${JSON.stringify(value)}`);
  return value ?? '';
}

function unwrapping(value: Unwrap | undefined): string {
  if (value !== undefined && !UNWRAPS.includes(value)) throw new RangeError(`not a way to unwrap: ${JSON.stringify(value)}`);
  return value ?? '';
}

function safe(value: string, allowed: RegExp): string {
  if (!allowed.test(value)) throw new RangeError(`not safe in a shell script: ${JSON.stringify(value)}`);
  return value;
}
