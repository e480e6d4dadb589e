// A packet in GLB's tunnel: IPv4, UDP, GUE variant 0 (draft-ietf-intarea-gue) whose private data is a list of servers to ask in turn, and the
// client's packet (GLB: docs/development/gue-header.md; src/forward writes the same).
#pragma once

#include "kernel.h"

// Ports that may lead here, and hops that a list may have.
#define GUE_PORTS 4
#define GUE_HOPS 4

struct gue {
  __u8 variant_length;  // variant, control bit, words behind the first one
  __u8 protocol;
  __u16 flags;
  __u16 private_type;
  __u8 next_hop;
  __u8 hop_count;
};

// Places of what is known, and how many are asked at most: as many as a file of lb4's can fill (LIMITS of src/layout/limits.ts).
#define KNOWN_BITS 13
#define KNOWN_PROBES 128

// What clients call: IPv6, or IPv4 as the last word behind OTHER_WORD twice and 0; or a server that may be asked next, behind it three times. (As the
// first word it is none of IPv6: it would be a multicast.)
struct known {
  __u32 words[4];
};

#define OTHER_WORD 0xffffffff

// What `lb4 rules` writes into the object (src/rules/gue-object.ts), found by its mark; addresses and ports in network order.
struct gue_settings {
  __u8 mark[8];
  __u32 server;
  __u16 ports[GUE_PORTS];
  // 0: whatever a list names may be asked.
  __u32 asks_known_hops;
  // Of the hash by which they have their places.
  __u32 seed;
  struct known known[1 << KNOWN_BITS];
};

const volatile struct gue_settings gue_settings = {.mark = "lb4-gue:"};

#define IP_AT ETH_HLEN
#define UDP_AT (IP_AT + sizeof(struct iphdr))
#define GUE_AT (UDP_AT + sizeof(struct udphdr))
#define HOPS_AT (GUE_AT + sizeof(struct gue))

struct tunnel {
  __u32 source;
  __u32 destination;
  __u16 checksum;
  struct gue gue;
};

enum tunnel_kind { NO_TUNNEL, BAD_TUNNEL, A_TUNNEL };

INLINE int is_gue_port(__u16 port) {
  int found = 0;
#pragma unroll
  for (int i = 0; i < GUE_PORTS; i++) found |= port == gue_settings.ports[i];
  return found && port;
}

// Open addressing: from its home on, until a place is empty.
INLINE int is_known(const struct known* wanted) {
  __u32 home = gue_settings.seed;
#pragma unroll
  for (int word = 0; word < 4; word++) {
    home = (home ^ wanted->words[word]) * 0x9e3779b1;
    home ^= home >> 15;
  }
  for (__u32 probe = 0; probe < KNOWN_PROBES; probe++) {
    const volatile struct known* const at = &gue_settings.known[(home + probe) & ((1 << KNOWN_BITS) - 1)];
    const __u32 words[4] = {at->words[0], at->words[1], at->words[2], at->words[3]};
    const __u32 differing =
        (words[0] ^ wanted->words[0]) | (words[1] ^ wanted->words[1]) | (words[2] ^ wanted->words[2]) | (words[3] ^ wanted->words[3]);
    // First: the unspecified address is nobody's.
    if (!(words[0] | words[1] | words[2] | words[3])) return 0;
    if (!differing) return 1;
  }
  return 0;
}

INLINE int may_be_asked(__u32 hop) {
  const struct known server = {{OTHER_WORD, OTHER_WORD, OTHER_WORD, hop}};
  return !gue_settings.asks_known_hops || is_known(&server);
}

// Where the client's packet begins in the frame.
INLINE __u32 inner_at(const struct tunnel* tunnel) {
  return HOPS_AT + 4 * tunnel->gue.hop_count;
}

// Whether a frame is one for this server, and a right one. Options in front of UDP, fragments, and what goes to others are left to the kernel.
INLINE enum tunnel_kind read_tunnel(struct __sk_buff* skb, struct tunnel* tunnel) {
  if (skb->pkt_type != 0 /* PACKET_HOST */ || skb->len < GUE_AT) return NO_TUNNEL;
  if (skb->data + GUE_AT > skb->data_end && bpf_skb_pull_data(skb, GUE_AT)) return NO_TUNNEL;
  void* const frame = (void*)(long)skb->data;
  if (frame + GUE_AT > (void*)(long)skb->data_end) return NO_TUNNEL;
  const struct iphdr* const ip = frame + IP_AT;
  const struct udphdr* const udp = frame + UDP_AT;
  if (*(const __u8*)ip != 0x45 || ip->protocol != IPPROTO_UDP || ip->frag_off & bpf_htons(0x3fff)) return NO_TUNNEL;
  if (ip->daddr != gue_settings.server || !is_gue_port(udp->dest)) return NO_TUNNEL;
  *tunnel = (struct tunnel){.source = ip->saddr, .destination = ip->daddr, .checksum = udp->check};
  if (bpf_skb_load_bytes(skb, GUE_AT, &tunnel->gue, sizeof(tunnel->gue))) return BAD_TUNNEL;
  const struct gue* const gue = &tunnel->gue;
  // Variant 0 and data are the three upper bits, all clear.
  if (gue->variant_length != gue->hop_count + 1 || gue->hop_count > GUE_HOPS) return BAD_TUNNEL;
  return A_TUNNEL;
}

// The server to ask next; 0 where there is none.
INLINE __u32 next_hop(struct __sk_buff* skb, const struct tunnel* tunnel) {
  __u32 hop = 0;
  if (tunnel->gue.next_hop >= tunnel->gue.hop_count) return 0;
  if (bpf_skb_load_bytes(skb, HOPS_AT + 4 * tunnel->gue.next_hop, &hop, sizeof(hop))) return 0;
  return hop;
}

// To the next server, as from this one. The kernel's routes and neighbours say how, by the interface it came in; no forwarding need be allowed here.
INLINE int send_on(struct __sk_buff* skb, const struct tunnel* tunnel, __u32 hop) {
  const __u32 addresses[2] = {tunnel->destination, hop};
  const __u8 counts[2] = {tunnel->gue.next_hop, tunnel->gue.hop_count};
  const __u8 next[2] = {tunnel->gue.next_hop + 1, tunnel->gue.hop_count};
  const __u32 udp_check = UDP_AT + __builtin_offsetof(struct udphdr, check);
  const __u64 zero = BPF_F_MARK_MANGLED_0;
  // Its own address moves from destination to source: to sums only the first source goes, and the hop comes.
  bpf_l3_csum_replace(skb, IP_AT + __builtin_offsetof(struct iphdr, check), tunnel->source, hop, 4);
  if (tunnel->checksum) {
    bpf_l4_csum_replace(skb, udp_check, tunnel->source, hop, zero | BPF_F_PSEUDO_HDR | 4);
    bpf_l4_csum_replace(skb, udp_check, *(const __u16*)counts, *(const __u16*)next, zero | 2);
  }
  if (bpf_skb_store_bytes(skb, IP_AT + __builtin_offsetof(struct iphdr, saddr), addresses, sizeof(addresses), 0)) return TC_ACT_SHOT;
  if (bpf_skb_store_bytes(skb, GUE_AT + __builtin_offsetof(struct gue, next_hop), next, 1, 0)) return TC_ACT_SHOT;
  return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
}

// Takes the tunnel off: what follows in the kernel sees the client's packet. Of IPv6 the frame is first one of IPv6, by a header that goes at once:
// the flag for that is Linux 6.3's. FIXED_GSO: segments of a super-packet are as large as they are on the wire.
INLINE int take_off(struct __sk_buff* skb, const struct tunnel* tunnel) {
  const __u16 ipv6 = bpf_htons(ETH_P_IPV6);
  const int is_ipv6 = tunnel->gue.protocol == IPPROTO_IPV6;
  __s32 cut = inner_at(tunnel) - IP_AT;
  if (is_ipv6) {
    if (bpf_skb_change_proto(skb, ipv6, 0)) return TC_ACT_SHOT;
    cut += sizeof(struct ipv6hdr) - sizeof(struct iphdr);
  }
  if (bpf_skb_adjust_room(skb, -cut, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO)) return TC_ACT_SHOT;
  if (is_ipv6 && bpf_skb_store_bytes(skb, __builtin_offsetof(struct ethhdr, h_proto), &ipv6, sizeof(ipv6), 0)) return TC_ACT_SHOT;
  return TC_ACT_UNSPEC;
}
