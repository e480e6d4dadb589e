import type { RingDriver } from './driver.ts';
import { native } from './native.ts';

/**
 * The driver for any interface: one AF_PACKET socket over all of them (packet(7)).
 * @param slots receive slots of 128 KB, a power of two
 * @param busyPollUs how long it looks at the ring before it sleeps, 0–10,000 microseconds
 * @param all frames of any kind, VLAN tags put back as they leave; fragments stay what they are
 * Throws the system's error: EPERM without CAP_NET_RAW, ENOMEM where the ring finds no memory.
 */
export function openPacketSocket(slots: number, filter: Uint32Array, busyPollUs = 0, all = false): RingDriver {
  return new (native().PacketSocket)({ slots, filter, busyPollUs, all });
}
