// Whose a client's packet in a tunnel is, as far as this server can tell: by its sockets, which know connections from the SYN until TIME_WAIT,
// and by the cookies that its SYN-ACKs bear while there is no socket yet.
#pragma once

#include "kernel.h"

enum owner {
  BROKEN,
  // No connection's: what has no socket of its own.
  ANYBODYS,
  OURS_BY_SYN,
  OURS_BY_SOCKET,
  OURS_BY_COOKIE,
  PERHAPS_ANOTHERS,
};

// A TCP segment, or what an error quotes of one, in the direction of the client's packets.
struct segment {
  struct bpf_sock_tuple tuple;
  __u32 tuple_size;
  // The IP header and its length; of an error none.
  union {
    struct iphdr v4;
    struct ipv6hdr v6;
  } ip;
  struct tcphdr tcp;
  __u32 is_quoted;
};

INLINE int is_bare_ack(const struct segment* segment) {
  return !segment->is_quoted && segment->tcp.ack && !segment->tcp.fin && !segment->tcp.rst;
}

// By the listener's secret, whether it has answered a SYN with the cookie that this acknowledges (bpf_tcp_check_syncookie in bpf-helpers(7)).
INLINE int has_cookie(const struct segment* segment, struct bpf_sock* listener) {
  struct tcphdr tcp = segment->tcp;
  if (segment->tuple_size == sizeof(segment->tuple.ipv4)) {
    struct iphdr ip = segment->ip.v4;
    return !bpf_tcp_check_syncookie(listener, &ip, sizeof(ip), &tcp, sizeof(tcp));
  }
  struct ipv6hdr ip = segment->ip.v6;
  return !bpf_tcp_check_syncookie(listener, &ip, sizeof(ip), &tcp, sizeof(tcp));
}

INLINE enum owner owner_by_socket(struct __sk_buff* skb, struct segment* segment) {
  if (!segment->is_quoted && segment->tcp.syn) return OURS_BY_SYN;
  struct bpf_sock* const socket = segment->tuple_size == sizeof(segment->tuple.ipv4)
                                      ? bpf_skc_lookup_tcp(skb, &segment->tuple, sizeof(segment->tuple.ipv4), BPF_F_CURRENT_NETNS, 0)
                                      : bpf_skc_lookup_tcp(skb, &segment->tuple, sizeof(segment->tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
  if (!socket) return PERHAPS_ANOTHERS;
  enum owner owner = PERHAPS_ANOTHERS;
  if (socket->state != BPF_TCP_LISTEN)
    owner = OURS_BY_SOCKET;
  else if (is_bare_ack(segment) && has_cookie(segment, socket))
    owner = OURS_BY_COOKIE;
  bpf_sk_release(socket);
  return owner;
}

// ---- IPv4

#define LATER_FRAGMENT 0x1fff

INLINE enum owner owner_of_tcp4(struct __sk_buff* skb, __u32 at, const struct iphdr* ip) {
  struct segment segment = {.tuple_size = sizeof(segment.tuple.ipv4), .ip.v4 = *ip};
  if (bpf_skb_load_bytes(skb, at, &segment.tcp, sizeof(segment.tcp))) return BROKEN;
  segment.tuple.ipv4.saddr = ip->saddr;
  segment.tuple.ipv4.daddr = ip->daddr;
  segment.tuple.ipv4.sport = segment.tcp.source;
  segment.tuple.ipv4.dport = segment.tcp.dest;
  return owner_by_socket(skb, &segment);
}

// "Fragmentation needed" quotes what the server has sent: its source is the frontend. Other messages are no connection's (RFC 1191).
INLINE enum owner owner_of_icmp4(struct __sk_buff* skb, __u32 at) {
  __u8 icmp[8];
  struct iphdr quoted;
  __u16 ports[2];
  if (bpf_skb_load_bytes(skb, at, icmp, sizeof(icmp))) return BROKEN;
  if (icmp[0] != 3 || icmp[1] != 4) return ANYBODYS;
  at += sizeof(icmp);
  if (bpf_skb_load_bytes(skb, at, &quoted, sizeof(quoted))) return BROKEN;
  if (quoted.protocol != IPPROTO_TCP || quoted.frag_off & bpf_htons(LATER_FRAGMENT)) return ANYBODYS;
  if (bpf_skb_load_bytes(skb, at + 4 * quoted.ihl, ports, sizeof(ports))) return BROKEN;
  struct segment segment = {.tuple_size = sizeof(segment.tuple.ipv4), .is_quoted = 1};
  segment.tuple.ipv4.saddr = quoted.daddr;
  segment.tuple.ipv4.daddr = quoted.saddr;
  segment.tuple.ipv4.sport = ports[1];
  segment.tuple.ipv4.dport = ports[0];
  return owner_by_socket(skb, &segment);
}

INLINE enum owner owner_of_ipv4(struct __sk_buff* skb, __u32 at) {
  struct iphdr ip;
  if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5) return BROKEN;
  if (ip.frag_off & bpf_htons(LATER_FRAGMENT)) return ANYBODYS;
  at += 4 * ip.ihl;
  if (ip.protocol == IPPROTO_TCP) return owner_of_tcp4(skb, at, &ip);
  if (ip.protocol == IPPROTO_ICMP) return owner_of_icmp4(skb, at);
  return ip.protocol == IPPROTO_UDP ? ANYBODYS : BROKEN;
}

// ---- IPv6: as GLB's directors send it, without extension headers; a fragment goes to whom its first hop is, as the others of its packet do

INLINE enum owner owner_of_tcp6(struct __sk_buff* skb, __u32 at, const struct ipv6hdr* ip) {
  struct segment segment = {.tuple_size = sizeof(segment.tuple.ipv6), .ip.v6 = *ip};
  if (bpf_skb_load_bytes(skb, at, &segment.tcp, sizeof(segment.tcp))) return BROKEN;
  __builtin_memcpy(segment.tuple.ipv6.saddr, &ip->saddr, sizeof(ip->saddr));
  __builtin_memcpy(segment.tuple.ipv6.daddr, &ip->daddr, sizeof(ip->daddr));
  segment.tuple.ipv6.sport = segment.tcp.source;
  segment.tuple.ipv6.dport = segment.tcp.dest;
  return owner_by_socket(skb, &segment);
}

// "Packet too big" (RFC 4443 section 3.2).
INLINE enum owner owner_of_icmp6(struct __sk_buff* skb, __u32 at) {
  __u8 icmp[8];
  struct ipv6hdr quoted;
  __u16 ports[2];
  if (bpf_skb_load_bytes(skb, at, icmp, sizeof(icmp))) return BROKEN;
  if (icmp[0] != 2) return ANYBODYS;
  at += sizeof(icmp);
  if (bpf_skb_load_bytes(skb, at, &quoted, sizeof(quoted))) return BROKEN;
  if (quoted.nexthdr != IPPROTO_TCP) return ANYBODYS;
  if (bpf_skb_load_bytes(skb, at + sizeof(quoted), ports, sizeof(ports))) return BROKEN;
  struct segment segment = {.tuple_size = sizeof(segment.tuple.ipv6), .is_quoted = 1};
  __builtin_memcpy(segment.tuple.ipv6.saddr, &quoted.daddr, sizeof(quoted.daddr));
  __builtin_memcpy(segment.tuple.ipv6.daddr, &quoted.saddr, sizeof(quoted.saddr));
  segment.tuple.ipv6.sport = ports[1];
  segment.tuple.ipv6.dport = ports[0];
  return owner_by_socket(skb, &segment);
}

INLINE enum owner owner_of_ipv6(struct __sk_buff* skb, __u32 at) {
  struct ipv6hdr ip;
  if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 6) return BROKEN;
  at += sizeof(ip);
  if (ip.nexthdr == IPPROTO_TCP) return owner_of_tcp6(skb, at, &ip);
  if (ip.nexthdr == IPPROTO_ICMPV6) return owner_of_icmp6(skb, at);
  return ip.nexthdr == IPPROTO_UDP || ip.nexthdr == IPPROTO_FRAGMENT ? ANYBODYS : BROKEN;
}
