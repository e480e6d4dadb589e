/** What a mode demands of a file beyond what all modes share. */
import { isAny, isLoopback } from '../address.ts';
import { isPacketMode, MODES, type Mode, type PacketMode } from '../modes.ts';
import { nodeAt, type TomlNode } from '../read/toml.ts';
import { dsrFindings } from './dsr.ts';
import { error, type Finding, show } from './finding.ts';
import { withoutTunnel } from './health.ts';
import { frontendPlaces, protocolsIn, serverPlaces, statsPlace, tables } from './places.ts';

/** No mode demands nothing more. */
export function modeFindings(root: TomlNode, mode: Mode | undefined): Finding[] {
  if (mode === undefined) return [];
  if (!isPacketMode(mode)) return [...packetsAlone(root), ...withoutTunnel(root)];
  const findings = [...ipv6Findings(root), ...listenFindings(root, mode)];
  return MODES[mode].directions === 1 ? [...findings, ...dsrFindings(root)] : [...findings, ...withoutTunnel(root)];
}

/** Where connections end here, they are TCP's, and servers see this host. */
function packetsAlone(root: TomlNode): Finding[] {
  return [...protocols(root), ...keptClients(root)];
}

function keptClients(root: TomlNode): Finding[] {
  return tables(root, 'backends').flatMap(({ path, node: { children } }) => {
    const node = children.get('nat');
    if (node?.value !== 'destination') return [];
    return [error(node, [...path, 'nat'], 'proxy mode connects from addresses of this host; needed: --passthrough, or send_proxy')];
  });
}

function protocols(root: TomlNode): Finding[] {
  return tables(root, 'frontends').flatMap((table) => {
    const node = table.node.children.get('protocol');
    if (node === undefined || protocolsIn(table).every((protocol) => protocol === 'tcp')) return [];
    return [error(node, [...table.path, 'protocol'], `${show(node.value)}: proxy mode carries TCP alone; needed: --passthrough or --dsr`)];
  });
}

/** Packets are sought by the address that they go to, and those of clients come from other hosts. */
function listenFindings(root: TomlNode, mode: PacketMode): Finding[] {
  return frontendPlaces(root).flatMap(({ address, node, path }) => {
    if (address.family === 6) return [];
    const problem = isAny(address) ? 'stands for every address' : isLoopback(address) ? 'is a loopback address' : undefined;
    const needed = `needed with --${mode}: an address of this host that clients reach`;
    return problem === undefined ? [] : [error(node, path, `${show(address.text)} ${problem}; ${needed}`)];
  });
}

/** The packet core forwards IPv4 alone. */
function ipv6Findings(root: TomlNode): Finding[] {
  const stats = statsPlace(root).map((place) => {
    const path = ['stats', 'address'];
    return { ...place, path, node: nodeAt(root, path) ?? place.node };
  });
  const servers = tables(root, 'backends').flatMap(({ name }) => serverPlaces(root, name));
  const found = [...frontendPlaces(root), ...servers, ...stats].filter(({ address }) => address.family === 6);
  return found.map(({ node, path }) => error(node, path, `${show(node.value)} is an IPv6 address; IPv6 works in proxy mode only`));
}
