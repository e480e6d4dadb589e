/** Whether an address is one of this host's, asked of the kernel. */
import { createSocket } from 'node:dgram';
import { isIPv6 } from 'node:net';

/** Any: nothing is sent. */
const DISCARD = 9;

/**
 * A UDP socket is bound to the address and connected to it, which sends nothing: both succeed for an address of this host alone.
 * bind(2) by itself would not tell: with net.ipv4.ip_nonlocal_bind=1 (hosts with VRRP have it) it takes any address. Where the
 * question cannot be asked (no descriptors are left) the answer is yes: then something else is wrong.
 */
export function isOwnAddress(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
    const answer = (error?: NodeJS.ErrnoException) => {
      socket.removeAllListeners('error').on('error', () => {});
      try {
        socket.close();
      } catch {
        // It was never opened.
      }
      resolve(!REFUSALS.has(error?.code ?? ''));
    };
    socket.once('error', answer);
    // connect() calls back with its error as well.
    socket.bind(0, address, () => socket.connect(DISCARD, address, answer));
  });
}

const REFUSALS = new Set(['EADDRNOTAVAIL', 'EINVAL', 'ENETUNREACH', 'EHOSTUNREACH']);
