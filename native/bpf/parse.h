// What a frame is: found, or left to user space. The same questions as src/forward/parse.ts and pass 3 of src/forward/pipeline.ts ask, but
// for IP options, which only they handle.
#pragma once

#include "kernel.h"

#define IP_MIN 20
#define TCP_MIN 20
#define FRAGMENT_BITS 0x3fff
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
// Bytes of the frame that all is decided by.
#define HEADERS (ETH_HLEN + IP_MIN + TCP_MIN)

// A segment's headers, without IP options: HEADERS bytes of the frame, which are there.
struct segment {
  struct ethhdr* ethernet;
  struct iphdr* ip;
  struct tcphdr* tcp;
};

INLINE struct segment segment_at(void* frame) {
  return (struct segment){frame, frame + ETH_HLEN, frame + ETH_HLEN + IP_MIN};
}

// Bytes of payload of a segment that needs nothing but a rewrite; negative: it goes up. `room` is how many bytes the frame has from the
// IP header on.
INLINE int payload_of(const struct segment* at, __u32 room) {
  if (at->ethernet->h_proto != bpf_htons(ETH_P_IP)) return -1;
  const struct iphdr* ip = at->ip;
  // Version 4, five words: options go up.
  if (*(const __u8*)ip != 0x45 || ip->protocol != IPPROTO_TCP || ip->ttl <= 1) return -1;
  if (ip->frag_off & bpf_htons(FRAGMENT_BITS)) return -1;
  const __u32 length = bpf_ntohs(ip->tot_len);
  if (length > room) return -1;
  const __u8* tcp = (const __u8*)at->tcp;
  const __u32 header = (tcp[12] >> 4) * 4;
  const __u8 flags = tcp[13];
  if (header < TCP_MIN || length < IP_MIN + header) return -1;
  if ((flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)) != TCP_ACK) return -1;
  // No sender of a whole checksum writes this: a sum of zero bytes alone would give it. As it is the one value for which the kernel's way to
  // update checksums and lb4's differ (by which of the two zeros), it goes up.
  if (at->tcp->check == 0xffff) return -1;
  return length - IP_MIN - header;
}
