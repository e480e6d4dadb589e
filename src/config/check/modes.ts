/** What a mode demands of a file beyond what all modes share. */
import { isAny, isLoopback } from '../address.ts';
import { isPacketMode, MODES, type Mode, type PacketMode } from '../modes.ts';
import { nodeAt, type TomlNode } from '../read/toml.ts';
import { dsrFindings } from './dsr.ts';
import { error, type Finding, show } from './finding.ts';
import { frontendPlaces, serverPlaces, statsPlace, tables } from './places.ts';

/** Proxy mode demands nothing more, and so does no mode. */
export function modeFindings(root: TomlNode, mode: Mode | undefined): Finding[] {
  if (mode === undefined || !isPacketMode(mode)) return [];
  const findings = [...ipv6Findings(root), ...listenFindings(root, mode)];
  return MODES[mode].directions === 1 ? [...findings, ...dsrFindings(root)] : findings;
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
