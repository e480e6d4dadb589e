/** What this host knows of a neighbour. */
import { readFile } from 'node:fs/promises';

/** Of each line: address, hardware's type, flags (proc(5), arp(7)). */
const FLAGS = 2;
/** if_arp.h, ATF_COM: its hardware address is known. */
const COMPLETE = 0x2;

/**
 * False where something has just been sent to an IPv4 address on a link of this host's, and nobody there has answered ARP. True of all
 * others: behind a router, without ARP, or where it cannot be told.
 * @param arp what /proc/net/arp says
 */
export async function answersArp(address: string, arp: Promise<string> = readFile('/proc/net/arp', 'utf8')): Promise<boolean> {
  try {
    const known = (await arp).split('\n').flatMap((line) => (line.startsWith(`${address} `) ? [Number(line.split(/\s+/)[FLAGS])] : []));
    return known.length === 0 || known.some((flags) => (flags & COMPLETE) !== 0);
  } catch {
    return true;
  }
}
