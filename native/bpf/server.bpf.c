// What a server behind `dsr = "gue"` runs at tc ingress, loaded by its own `tc` from the script that `lb4 rules --dsr --for SERVER` prints
// (iptables/tunnel.sh): it takes GLB's tunnel off, and gives packets of connections that this server does not have a second chance at the next one
// of their list. So a balancer may send established connections to another server first, while the old one still has them.
//
//     gue.h       a tunnel's packet for us?     no ──► the kernel's
//                 for one of our addresses?     no ──► dropped: nobody gets past a firewall by a tunnel
//     owner.h     a connection of ours?         no ──► the next server, if there is one that a balancer may name
//                                              yes ──► the tunnel comes off, and the kernel has the client's packet
#include <linux/ipv6.h>

#include "gue.h"
#include "owner.h"

char lb4_license[] SEC("license") = "GPL";

// In this order `status` of the script shows them (GLB's names: glb-redirect's statistics; the last three are ours).
enum counter {
  TOTAL_PACKETS,
  ACCEPTED_SYN_PACKETS,
  ACCEPTED_LAST_RESORT_PACKETS,
  ACCEPTED_ESTABLISHED_PACKETS,
  ACCEPTED_SYN_COOKIE_PACKETS,
  FORWARDED_TO_SELF_PACKETS,
  FORWARDED_TO_ALTERNATE_PACKETS,
  DROPPED_PACKETS,
  DROPPED_DESTINATION_PACKETS,
  DROPPED_HOP_PACKETS,
  COUNTERS,
};

// The script writes the network namespace into the name before tc pins it by that. The kernel prints a pinned map by its BTF, so `cat` reads them.
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __type(key, __u32);
  __type(value, __u64);
  __uint(max_entries, COUNTERS);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} lb4_gue_00000000 SEC(".maps");

INLINE void count(__u32 counter) {
  __u64* const number = bpf_map_lookup_elem(&lb4_gue_00000000, &counter);
  if (number) (*number)++;
}

INLINE enum owner owner_of(struct __sk_buff* skb, const struct tunnel* tunnel) {
  if (tunnel->gue.protocol == IPPROTO_IPIP) return owner_of_ipv4(skb, inner_at(tunnel));
  if (tunnel->gue.protocol == IPPROTO_IPV6) return owner_of_ipv6(skb, inner_at(tunnel));
  return BROKEN;
}

#define ECHO_REQUEST 8

// Whether a client's packet is for an address that this server answers for. To its own one only a balancer's check comes: an echo request.
INLINE int is_for_us(struct __sk_buff* skb, const struct tunnel* tunnel) {
  const __u32 at = inner_at(tunnel);
  struct known destination;
  if (tunnel->gue.protocol == IPPROTO_IPV6)
    return !bpf_skb_load_bytes(skb, at + __builtin_offsetof(struct ipv6hdr, daddr), &destination, sizeof(destination)) &&
           destination.words[0] != OTHER_WORD && is_known(&destination);
  struct iphdr ip;
  __u8 type = 0;
  if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip))) return 0;
  if (ip.daddr == gue_settings.server)
    return ip.protocol == IPPROTO_ICMP && !bpf_skb_load_bytes(skb, at + 4 * ip.ihl, &type, 1) && type == ECHO_REQUEST;
  destination = (struct known){{OTHER_WORD, OTHER_WORD, 0, ip.daddr}};
  return is_known(&destination);
}

// What is done with it; `hop` is where it goes on to, or 0.
INLINE enum counter judge(enum owner owner, __u32 hop) {
  switch (owner) {
    case BROKEN: return DROPPED_PACKETS;
    case ANYBODYS: return TOTAL_PACKETS;
    case OURS_BY_SYN: return ACCEPTED_SYN_PACKETS;
    case OURS_BY_SOCKET: return ACCEPTED_ESTABLISHED_PACKETS;
    case OURS_BY_COOKIE: return ACCEPTED_SYN_COOKIE_PACKETS;
    default: break;
  }
  if (!hop) return ACCEPTED_LAST_RESORT_PACKETS;
  return hop == gue_settings.server ? FORWARDED_TO_SELF_PACKETS : FORWARDED_TO_ALTERNATE_PACKETS;
}

INLINE enum counter verdict_of(struct __sk_buff* skb, const struct tunnel* tunnel, __u32 hop) {
  const enum counter verdict = judge(owner_of(skb, tunnel), hop);
  if (verdict == DROPPED_PACKETS) return verdict;
  if (!is_for_us(skb, tunnel)) return DROPPED_DESTINATION_PACKETS;
  return verdict == FORWARDED_TO_ALTERNATE_PACKETS && !may_be_asked(hop) ? DROPPED_HOP_PACKETS : verdict;
}

INLINE int act(struct __sk_buff* skb, const struct tunnel* tunnel, enum counter verdict, __u32 hop) {
  if (verdict >= DROPPED_PACKETS) return TC_ACT_SHOT;
  if (verdict == FORWARDED_TO_ALTERNATE_PACKETS) return send_on(skb, tunnel, hop);
  const int action = take_off(skb, tunnel);
  if (action == TC_ACT_SHOT) count(DROPPED_PACKETS);
  return action;
}

SEC("tc")
int lb4_server(struct __sk_buff* skb) {
  struct tunnel tunnel;
  const enum tunnel_kind kind = read_tunnel(skb, &tunnel);
  if (kind == NO_TUNNEL) return TC_ACT_UNSPEC;
  count(TOTAL_PACKETS);
  if (kind == BAD_TUNNEL) {
    count(DROPPED_PACKETS);
    return TC_ACT_SHOT;
  }
  const __u32 hop = next_hop(skb, &tunnel);
  const enum counter verdict = verdict_of(skb, &tunnel, hop);
  if (verdict != TOTAL_PACKETS) count(verdict);
  return act(skb, &tunnel, verdict, hop);
}
