import type { Io } from '../config/model.ts';
import { type Capability, capable } from '../io/capabilities.ts';
import { ADDON_MEND } from '../io/native.ts';
import { loadPackages } from '../io/pcap-packages.ts';
import { type Finding, fail, ok } from './finding.ts';
import { loadAddon, tryPacketSocket } from './network.ts';

const NEEDED = ['CAP_NET_ADMIN', 'CAP_NET_RAW'] as const;

export const AS_ROOT = 'run it as root: sudo lb4 …';

export function privileges(io: Io = 'ring'): Finding[] {
  return [capabilities(), io === 'pcap' ? pcapPackages() : packetSocket()];
}

/** Those that firewall rules need, and packet sockets. */
export function capabilities(): Finding {
  const names = namesLacking(NEEDED);
  return names === '' ? ok('privileges', NEEDED.join(', ')) : fail('privileges', `this process lacks ${names}`, AS_ROOT);
}

/** Proxy mode listens by the addon, too, and its servers' routes are asked for by it. */
export function addon(): Finding[] {
  try {
    loadAddon();
    return [];
  } catch (error) {
    return [fail('addon', (error as Error).message, ADDON_MEND)];
  }
}

/** Then nothing more can be read of this host; {@link addon} or {@link privileges} says why. */
export function lacksAddon(): boolean {
  return addon().length > 0;
}

function pcapPackages(): Finding {
  try {
    loadPackages();
    return ok('pcap', 'cap and raw-socket load');
  } catch (error) {
    return fail('pcap', (error as Error).message);
  }
}

function packetSocket(): Finding {
  try {
    tryPacketSocket();
    return ok('AF_PACKET', 'a packet socket with a ring opens');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EPERM' || code === 'EACCES') return fail('AF_PACKET', message, AS_ROOT);
    if (code === 'EAFNOSUPPORT') return fail('AF_PACKET', `${message}: this kernel lacks CONFIG_PACKET`, 'modprobe af_packet');
    return fail('AF_PACKET', message, code === 'ERR_NATIVE_ADDON' ? ADDON_MEND : undefined);
  }
}

export function namesLacking(needed: readonly Capability[]): string {
  return needed.filter((name) => !capable(name)).join(' and ');
}
