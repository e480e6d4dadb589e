/**
 * What a check says first to a server that expects the PROXY protocol's header: a connection on lb4's own behalf, for no client.
 * https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt
 */

import type { SendProxy } from '../config/model.ts';

/** Both tell the server to take the connection's own addresses. */
export const OWN_HEADER: Readonly<Record<SendProxy, Buffer>> = {
  // Section 2.1: the family UNKNOWN, and no addresses.
  v1: Buffer.from('PROXY UNKNOWN\r\n'),
  // Section 2.2: the signature, version 2 with the command LOCAL, no family or transport, and a length of 0.
  v2: Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x20, 0x00, 0x00, 0x00]),
};
