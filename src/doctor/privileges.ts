import type { Io } from '../config/model.ts';
import { ADDON_MEND } from '../io/native.ts';
import { loadPackages } from '../io/pcap-packages.ts';
import { read } from '../rules/read.ts';
import { type Finding, fail, ok } from './finding.ts';
import { loadAddon, tryPacketSocket } from './network.ts';

/** Bits of CapEff (capabilities(7)). */
const NEEDED = { CAP_NET_ADMIN: 12n, CAP_NET_RAW: 13n } as const;

export const AS_ROOT = 'run it as root: sudo lb4 …';

export function privileges(io: Io = 'ring'): Finding[] {
  return [capabilities(), io === 'pcap' ? pcapPackages() : packetSocket()];
}

/** Those that firewall rules need, and packet sockets. */
export function capabilities(): Finding {
  const names = namesLacking(NEEDED);
  return names === '' ? ok('privileges', Object.keys(NEEDED).join(', ')) : fail('privileges', `this process lacks ${names}`, AS_ROOT);
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

export function namesLacking(needed: Readonly<Record<string, bigint>>): string {
  const missing = Object.entries(needed).filter(([, bit]) => !capable(bit));
  return missing.map(([name]) => name).join(' and ');
}

export function capable(bit: bigint): boolean {
  const mask = /^CapEff:\s*([0-9a-f]+)$/m.exec(read('/proc/self/status') ?? '')?.[1] ?? '0';
  return ((BigInt(`0x${mask}`) >> bit) & 1n) === 1n;
}
