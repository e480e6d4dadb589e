// What a frame is: found, or left to user space. The same questions as src/forward/parse.ts and pass 3 of src/forward/pipeline.ts ask, but
// for IP options, which only they handle.
#pragma once

#include "parse_tcp.h"
#include "parse_udp.h"
#include "settings.h"

#define FRAGMENT_BITS 0x3fff
// Bytes of the frame that a plain one has at least, and those that all is decided by.
#define HEADERS_MIN (ETH_HLEN + IP_MIN + UDP_HEADER)
#define HEADERS_MAX (ETH_HLEN + IP_MIN + TCP_MIN)

INLINE struct packet packet_at(void* frame) {
  return (struct packet){frame, frame + ETH_HLEN, frame + ETH_HLEN + IP_MIN};
}

// Bytes of a whole IPv4 packet without options, which is no fragment; 0: it is none. `room` is how many the frame has from the IP header on.
INLINE __u32 length_of(const struct packet* at, __u32 room) {
  if (at->ethernet->h_proto != bpf_htons(ETH_P_IP)) return 0;
  // Version 4, five words: options go up.
  if (*(const __u8*)at->ip != 0x45 || at->ip->frag_off & bpf_htons(FRAGMENT_BITS)) return 0;
  const __u32 length = bpf_ntohs(at->ip->tot_len);
  return length > room ? 0 : length;
}

// Bytes of payload of a packet that needs nothing but a rewrite; negative: it goes up. HEADERS_MIN bytes of the frame are there, up to `end`
// they can be read. `acknowledgement` is TCP's, else 0.
INLINE int payload_of(const struct packet* at, const void* end, __u32 room, __u32* acknowledgement) {
  const __u32 length = length_of(at, room);
  if (!length || (at->ip->ttl <= 1 && !settings.is_inline)) return -1;
  if (at->ip->protocol == IPPROTO_TCP) return tcp_payload(at, end, length, acknowledgement);
  if (at->ip->protocol == IPPROTO_UDP) return udp_payload(at, length);
  return -1;
}
