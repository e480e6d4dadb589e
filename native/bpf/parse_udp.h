// UDP (RFC 768). The same questions as src/flow/udp.ts asks, but for datagrams that end before their IP packet does: they go up.
#pragma once

#include "packet.h"

#define UDP_HEADER 8

// Bytes of payload of a datagram that needs nothing but a rewrite; negative: it goes up. `length` is that of the IP packet.
INLINE int udp_payload(const struct packet* at, __u32 length) {
  const struct udphdr* udp = (const struct udphdr*)at->transport;
  if (length < IP_MIN + UDP_HEADER || bpf_ntohs(udp->len) != length - IP_MIN) return -1;
  return udp->check == CHECKSUM_UNCLEAR ? -1 : (int)(length - IP_MIN - UDP_HEADER);
}
