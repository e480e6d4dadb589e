// The fast path: what TypeScript has decided on for a connection, repeated for its packets inside the kernel. Everything that asks for more
// than that goes up unchanged: to the packet socket, and past the rules that keep it from the kernel's own TCP and UDP.
//
//     parse.h     a plain segment or datagram?     no ──► early_drop.h
//     table.h     a flow that was given to us?     no ──► early_drop.h
//     rewrite.h   its rewrite, whole; its hop      no ──► up
//     way_back.h  its client comes another way, which user space has to see ──► up
//                 headers, checksum, account       ──► out of the hop's interface
//     wrap.h      or the packet into another one
//
//     early_drop.h    a first packet that user space would end without a word?     no ──► up; yes ──► nowhere
//     access.h            denied by its frontend's lists
//     syn_guard.h         a SYN that has not come before, while they flood
#include "early_drop.h"
#include "links.h"
#include "parse.h"
#include "rewrite.h"
#include "table.h"
#include "way_back.h"
#include "wrap.h"

char lb4_license[] SEC("license") = "GPL";

// The flow that a packet goes by and what to do with it; null: up. `length` is that of the IP packet on the wire, which came by `interface`. What
// forges a server's answer goes up, and is counted there. Which addresses are this
// host's, the program does not know: so what no worker has as a packet to this host is looked up as an answer to a client as well. Only what goes up
// costs that second look, in the same home of another worker.
INLINE struct flow* decide(const struct packet* at, __u32 interface, __u32 length, struct rewrite* rewrite) {
  const struct tuple key = tuple_of(at);
  __u32 worker = worker_of(&key);
  __u32 state = 0;
  struct flow* flow = find(&key, at->ip->protocol, worker, &state);
  if (!flow && worker != worker_of_answer(&key)) {
    worker = worker_of_answer(&key);
    flow = find(&key, at->ip->protocol, worker, &state);
  }
  if (flow && state & LB4_FLOW_GUARDED && is_clients_alone(worker, interface)) return 0;
  if (!flow || !copy_rewrite(flow, state, worker, length, rewrite)) return 0;
  return strays(flow, at, rewrite, worker, interface) ? 0 : flow;
}

// Where the checksum of a transport header stands.
INLINE __u32 checksum_in(__u32 protocol) {
  return protocol == IPPROTO_TCP ? __builtin_offsetof(struct tcphdr, check) : __builtin_offsetof(struct udphdr, check);
}

// ---- tc: where super-packets and partial checksums stay whole

// Has the kernel update the transport checksum, which alone knows whether it is whole or holds only the pseudo-header's sum
// (bpf_l4_csum_replace in bpf-helpers(7)): of the addresses in either case, of the ports only where it is whole. UDP's zero is none, and stays.
INLINE void update_checksum(struct __sk_buff* skb, __u32 protocol, const struct rewrite* rewrite) {
  const __u32 at = ETH_HLEN + IP_MIN + checksum_in(protocol);
  const __u64 zero = protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
  const __u32 ports = fold(rewrite->transport_delta + (~rewrite->address_delta & 0xffff));
  if (rewrite->address_delta) bpf_l4_csum_replace(skb, at, 0, rewrite->address_delta, zero | BPF_F_PSEUDO_HDR);
  if (ports) bpf_l4_csum_replace(skb, at, 0, ports, zero);
}

// Whether the least headers are there to be read, and where.
INLINE int find_headers(struct __sk_buff* skb, struct packet* at) {
  void* const frame = (void*)(long)skb->data;
  *at = packet_at(frame);
  return frame + HEADERS_MIN <= (void*)(long)skb->data_end;
}

// Whether the headers of any protocol are, as far as the frame has them: those of a small datagram are shorter than others'.
INLINE int has_headers(struct __sk_buff* skb) {
  const __u32 wanted = skb->len < HEADERS_MAX ? skb->len : HEADERS_MAX;
  return (void*)(long)skb->data + wanted <= (void*)(long)skb->data_end;
}

// Ethernet's padding is not forwarded. Pointers into the packet are void afterwards.
INLINE int cut_padding(struct __sk_buff* skb, __u32 whole) {
  return skb->len <= ETH_HLEN + whole || !bpf_skb_change_tail(skb, ETH_HLEN + whole, 0);
}

// A super-packet has none, and cannot be cut: one that ends before its frame does was made by somebody who lies (a guest), and goes up.
INLINE int is_padded_super(const struct __sk_buff* skb, __u32 whole) {
  return skb->gso_size && skb->len > ETH_HLEN + whole;
}

// Of an IP packet of `whole` bytes: of a super-packet that of one of its segments.
INLINE __u32 wire_length(const struct __sk_buff* skb, __u32 whole, __u32 payload) {
  return skb->gso_size ? whole - payload + skb->gso_size : whole;
}

// Puts a packet of `whole` bytes into another one. Super-packets stay so: whoever cuts them has each segment wrapped. The kernel's own sum of a frame, if
// there is one, is kept true for whom it goes to. What has become longer cannot go up any more.
INLINE int wrap(struct __sk_buff* skb, __u32 whole, const struct rewrite* rewrite) {
  __u32 sum = 0;
  if (!write_outer((void*)(long)skb->data, (void*)(long)skb->data_end, rewrite, whole, &sum)) return TC_ACT_SHOT;
  if (sum) bpf_csum_update(skb, sum);
  return bpf_redirect(rewrite->interface, 0);
}

// Room for the headers between Ethernet's and the packet, which are told the kernel. 0: the packet goes up as it is.
INLINE int make_room(struct __sk_buff* skb, __u32 whole, __u32 bytes) {
  const __u64 udp = bytes == IPIP_BYTES ? 0 : BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
  if (whole + bytes > MOST_LENGTH) return 0;
  return !bpf_skb_adjust_room(skb, bytes, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | udp);
}

INLINE int without_flow(struct __sk_buff* skb, const struct packet* at) {
  return is_dropped(at, (void*)(long)skb->data_end, skb->len - ETH_HLEN, skb->ifindex, 1) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

SEC("tc")
int lb4_tc(struct __sk_buff* skb) {
  // As the filter of the packet socket has it (src/io/filter.ts): what is not addressed to this host passes; between interfaces nothing is.
  if ((skb->pkt_type != 0 /* PACKET_HOST */ && !settings.is_inline) || skb->vlan_present) return TC_ACT_UNSPEC;
  if (!has_headers(skb) && bpf_skb_pull_data(skb, skb->len < HEADERS_MAX ? skb->len : HEADERS_MAX)) return TC_ACT_UNSPEC;
  struct packet at;
  if (!find_headers(skb, &at)) return TC_ACT_UNSPEC;
  __u32 acknowledgement = 0;
  const int payload = payload_of(&at, (void*)(long)skb->data_end, skb->len - ETH_HLEN, &acknowledgement);
  const __u32 whole = bpf_ntohs(at.ip->tot_len);
  if (is_padded_super(skb, whole)) return TC_ACT_UNSPEC;
  if (payload < 0) return without_flow(skb, &at);
  const __u32 length = wire_length(skb, whole, payload);
  const __u32 protocol = at.ip->protocol;
  struct rewrite rewrite;
  struct flow* const flow = decide(&at, skb->ifindex, length, &rewrite);
  if (!flow) return without_flow(skb, &at);
  if (!cut_padding(skb, whole)) return TC_ACT_UNSPEC;
  if (rewrite.wrapped_by) {
    if (!make_room(skb, whole, rewrite.wrapped_by)) return TC_ACT_UNSPEC;
    account(flow, &rewrite, payload, acknowledgement);
    return wrap(skb, whole, &rewrite);
  }
  if (!find_headers(skb, &at)) return TC_ACT_UNSPEC;
  account(flow, &rewrite, payload, acknowledgement);
  rewrite_headers(&at, &rewrite);
  update_checksum(skb, protocol, &rewrite);
  return bpf_redirect(rewrite.interface, 0);
}

// ---- between interfaces: the packet socket there taps before tc, so it must not see what tc will take

// The beginning of a frame, its IP header at a multiple of four bytes.
struct head {
  __u8 unused[2];
  __u8 bytes[HEADERS_MAX];
} __attribute__((aligned(8)));

// Whether tc will, or will drop it: the same questions, of a copy, since a socket's filter may not look into the frame. A flow that is given to the kernel, or
// taken back, between the two is forwarded twice, or not at all, for this one frame.
INLINE int is_taken(struct __sk_buff* skb) {
  struct head head = {};
  if (skb->vlan_present || skb->len < HEADERS_MIN) return 0;
  if (skb->len < HEADERS_MAX ? bpf_skb_load_bytes(skb, 0, head.bytes, HEADERS_MIN) : bpf_skb_load_bytes(skb, 0, head.bytes, HEADERS_MAX))
    return 0;
  const struct packet at = packet_at(head.bytes);
  __u32 acknowledgement = 0;
  const int payload = payload_of(&at, head.bytes + HEADERS_MAX, skb->len - ETH_HLEN, &acknowledgement);
  const __u32 whole = bpf_ntohs(at.ip->tot_len);
  if (is_padded_super(skb, whole)) return 0;
  struct rewrite rewrite;
  if (payload >= 0 && decide(&at, skb->ifindex, wire_length(skb, whole, payload), &rewrite)) return 1;
  return is_dropped(&at, head.bytes + HEADERS_MAX, skb->len - ETH_HLEN, skb->ifindex, 0);
}

// How many bytes of a frame the socket has: none, or all.
SEC("socket")
int lb4_tap(struct __sk_buff* skb) {
  const struct link* const link = link_of(skb->ifindex);
  if (!link || (link->has_tc && is_taken(skb))) return 0;
  return -1;
}

// ---- XDP: a driver's own hook, before the kernel makes anything of a frame

// A frame that is addressed to somebody else passes (a promiscuous interface has those, too), and so does one that would have to leave by an interface
// where it does not stand, or whose driver takes no redirected frames: it would lose them without a word. tc, which comes next, knows no such
// difference. Between interfaces no frame is addressed to this host.
INLINE int is_ours(const struct ethhdr* ethernet, __u32 interface) {
  if (settings.is_inline) return 1;
  const struct link* link = link_of(interface);
  if (!link) return 0;
  return *(__u32*)link->address == *(__u32*)ethernet->h_dest && *(__u16*)(link->address + 4) == *(__u16*)(ethernet->h_dest + 4);
}

// Of a whole one: a NIC's frames have no other (docs/operations.md, fast_path). To UDP zero is none, which stays; a computed zero is all ones.
INLINE void update_whole(__u16* check, __u32 protocol, __u32 delta) {
  if (protocol == IPPROTO_UDP && !*check) return;
  const __u16 sum = ~fold((~*check & 0xffff) + delta);
  *check = protocol == IPPROTO_UDP && !sum ? 0xffff : sum;
}

// Sends a frame on: back where it came from, or by another interface.
INLINE int send_by(__u32 interface, int goes_back) {
  return goes_back ? XDP_TX : bpf_redirect(interface, 0);
}

SEC("xdp")
int lb4_xdp(struct xdp_md* xdp) {
  void* frame = (void*)(long)xdp->data;
  void* end = (void*)(long)xdp->data_end;
  if (frame + HEADERS_MIN > end) return XDP_PASS;
  struct packet at = packet_at(frame);
  // A difference of pointers takes CAP_PERFMON beside CAP_BPF.
  const __u32 room = end - frame - ETH_HLEN;
  const __u32 length = bpf_ntohs(at.ip->tot_len);
  __u32 acknowledgement = 0;
  const int payload = payload_of(&at, end, room, &acknowledgement);
  if (!is_ours(at.ethernet, xdp->ingress_ifindex)) return XDP_PASS;
  const __u32 protocol = at.ip->protocol;
  if (payload < 0) return is_dropped(&at, end, room, xdp->ingress_ifindex, 1) ? XDP_DROP : XDP_PASS;
  struct rewrite rewrite;
  struct flow* const flow = decide(&at, xdp->ingress_ifindex, length, &rewrite);
  if (!flow) return is_dropped(&at, end, room, xdp->ingress_ifindex, 1) ? XDP_DROP : XDP_PASS;
  const struct link* const out = link_of(rewrite.interface);
  if (!out) return XDP_PASS;
  // Where a veth's peer has GRO, XDP_TX fills its ring, wakes it only if it has XDP as well, and nothing passes that link ever again
  // (veth_xdp_flush, Linux 6.18).
  const int goes_back = rewrite.interface == xdp->ingress_ifindex && !out->is_virtual;
  if (!goes_back && !out->takes_redirected) return XDP_PASS;
  // Ethernet's padding is not forwarded.
  if (room > length) {
    if (bpf_xdp_adjust_tail(xdp, (int)(length - room))) return XDP_PASS;
    frame = (void*)(long)xdp->data;
    end = (void*)(long)xdp->data_end;
    if (frame + HEADERS_MIN > end) return XDP_PASS;
    at = packet_at(frame);
  }
  if (rewrite.wrapped_by) {
    __u32 sum = 0;
    if (bpf_xdp_adjust_head(xdp, -(int)rewrite.wrapped_by)) return XDP_PASS;
    account(flow, &rewrite, payload, acknowledgement);
    frame = (void*)(long)xdp->data;
    if (!write_outer(frame, (void*)(long)xdp->data_end, &rewrite, length, &sum)) return XDP_DROP;
    return send_by(rewrite.interface, goes_back);
  }
  __u16* const check = (void*)at.transport + checksum_in(protocol);
  if ((void*)(check + 1) > end) return XDP_PASS;
  account(flow, &rewrite, payload, acknowledgement);
  rewrite_headers(&at, &rewrite);
  update_whole(check, protocol, rewrite.transport_delta);
  return send_by(rewrite.interface, goes_back);
}
