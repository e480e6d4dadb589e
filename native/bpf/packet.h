// A packet's headers, without IP options, and what every protocol's has.
#pragma once

#include "kernel.h"

#define IP_MIN 20
// Of the headers of a tunnel (packet/tunnel.ts): IP in IP; GUE without further hops.
#define IPIP_BYTES 20
#define GUE_BYTES 36

struct packet {
  struct ethhdr* ethernet;
  struct iphdr* ip;
  // The transport header, which begins with the ports.
  __u32* transport;
};

// No sender of a whole TCP checksum writes this: a sum of zero bytes alone would give it; to UDP it is a computed zero (RFC 768). As it is the
// one value for which the kernel's way to update checksums and lb4's differ (by which of the two zeros), it goes up.
#define CHECKSUM_UNCLEAR 0xffff
