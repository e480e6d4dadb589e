// What packets of WRAPPED flows are put into: the headers of src/packet/tunnel.ts, to the byte, in front of a packet that stays as it is, its TTL too.
#pragma once

#include "parse.h"
#include "rewrite.h"

#define WRAP_TTL 64
#define IP_IN_IP 4
#define DONT_FRAGMENT 0x4000
#define MOST_HOPS 3
// What an IP header can say: a super-packet that has no more with its tunnel is cut by user space.
#define MOST_LENGTH 0xffff

// GUE's first four bytes and GLB's private data (packet/tunnel.ts).
struct gue_words {
  __u8 words_behind;
  __u8 protocol;
  __u16 flags;
  __u16 type;
  __u8 next_hop;
  __u8 hop_count;
};

// The words in their order, folded to one (bpf_csum_update in bpf-helpers(7)).
INLINE __u32 sum_of(__u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  return (sum & 0xffffffff) + (sum >> 32);
}

INLINE void write_outer_ip(struct iphdr* ip, const struct rewrite* rewrite, __u32 length) {
  const __u8 protocol = rewrite->wrapped_by == IPIP_BYTES ? IP_IN_IP : IPPROTO_UDP;
  struct iphdr outer = {
      .version = 4,
      .ihl = IP_MIN / 4,
      .tot_len = bpf_htons(length + rewrite->wrapped_by),
      .frag_off = bpf_htons(DONT_FRAGMENT),
      .ttl = WRAP_TTL,
      .protocol = protocol,
      .saddr = rewrite->outer.source,
      .daddr = rewrite->outer.destination,
  };
  outer.check = header_checksum(&outer);
  *ip = outer;
}

// Writes all of them into the room in front of a packet of `length` bytes: the frame begins anew at `frame`, up to `end` it can be written to. Returns 0 where
// that is too little. `sum` is that of all behind the IP header, whose own is nothing.
INLINE int write_outer(void* frame, const void* end, const struct rewrite* rewrite, __u32 length, __u32* sum) {
  const struct packet at = packet_at(frame);
  *sum = 0;
  if (frame + ETH_HLEN + IP_MIN > end) return 0;
  rewrite_ethernet(&at, rewrite);
  write_outer_ip(at.ip, rewrite, length);
  if (rewrite->wrapped_by == IPIP_BYTES) return 1;
  __u32* const word = at.transport;
  if ((void*)(word + 4) > end) return 0;
  const __u32 count = (rewrite->wrapped_by - GUE_BYTES) / 4;
  const struct gue_words gue = {.words_behind = 1 + count, .protocol = IP_IN_IP, .hop_count = count};
  word[0] = rewrite->outer.ports;
  // No checksum: the packet inside has its own.
  word[1] = bpf_htons(length + rewrite->wrapped_by - IP_MIN);
  __builtin_memcpy(word + 2, &gue, sizeof(gue));
  __u64 all = (__u64)word[0] + word[1] + word[2] + word[3];
  const __u32 hops[MOST_HOPS] = {rewrite->to.source, rewrite->to.destination, rewrite->to.ports};
#pragma unroll
  for (__u32 i = 0; i < MOST_HOPS; i++) {
    if (i >= count) continue;
    if ((void*)(word + 5 + i) > end) return 0;
    word[4 + i] = hops[i];
    all += hops[i];
  }
  *sum = sum_of(all);
  return 1;
}
