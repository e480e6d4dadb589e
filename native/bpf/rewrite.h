// What TypeScript has decided on for a flow, copied while nobody changes it, and done to a packet.
#pragma once

#include "packet.h"
#include "table.h"

struct hop {
  __u32 word[LB4_HOP_HOP];
};

// Next hops, of each worker its own copy (src/layout/hops.ts).
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct hop);
  __uint(max_entries, 1);  // the loader knows
} hops SEC(".maps");

// Packets that left by the fast path; read by the main thread.
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __type(key, __u32);
  __type(value, __u64);
  __uint(max_entries, 1);
} counts SEC(".maps");

INLINE void count_one(void) {
  const __u32 forwarded = 0;
  __u64* number = bpf_map_lookup_elem(&counts, &forwarded);
  if (number) (*number)++;
}

// The word of a set of links in which an interface has its bit (src/forward/links.ts); `first` is the set's first entry.
INLINE __u32 links_at(__u32 worker, __u32 first, __u32 interface) {
  const __u32 bit = interface % LB4_HOP_LINKS;
  const __u32 place = worker * LB4_HOP_ENTRIES + first + bit / (32 * LB4_HOP_HOP);
  const struct hop* links = bpf_map_lookup_elem(&hops, &place);
  return links ? READ_ONCE(links->word[bit / 32 % LB4_HOP_HOP]) : 0;
}

// isClientsAlone() of src/forward/links.ts.
INLINE int is_clients_alone(__u32 worker, __u32 interface) {
  return links_at(worker, LB4_HOP_CLIENT_LINKS, interface) & ~links_at(worker, LB4_HOP_SERVER_LINKS, interface) & 1u << interface % 32;
}

struct rewrite {
  // CLOCK_MONOTONIC in ms, modulo 2^32, as SEEN has it.
  __u32 now;
  // Of a WRAPPED flow the addresses of further hops, in their order.
  struct tuple to;
  // Of the addresses alone, and of all that the transport checksum covers: one's complement sums of 16 bits.
  __u32 address_delta;
  __u32 transport_delta;
  __u32 interface;
  __u32 ethernet[4];
  // Bytes of the headers of a tunnel, 0: the packet is rewritten; and their addresses and ports (wrap.h).
  __u32 wrapped_by;
  struct tuple outer;
};

// Which tables a worker's flows are to go by (forward/rows.ts).
INLINE const struct hop* tables_of(__u32 worker) {
  const __u32 place = worker * LB4_HOP_ENTRIES + LB4_HOP_TABLES;
  return bpf_map_lookup_elem(&hops, &place);
}

// Whether a WRAPPED flow with these DELTAS follows no table, or those in force: else user space writes its row anew.
INLINE int is_current(__u32 deltas, const struct hop* tables) {
  const __u32 tag = deltas >> LB4_FLOW_TAG_SHIFT;
  return !tag || (tables && tag == READ_ONCE(tables->word[0]));
}

// What packets of a WRAPPED flow are put into. Returns 0 where its next hop wraps nothing (any more).
INLINE int copy_tunnel(const struct hop* hop, __u32 deltas, struct rewrite* rewrite) {
  const __u32 tunnel = READ_ONCE(hop->word[LB4_HOP_TUNNEL]);
  const __u32 most = tunnel & 0xffff;
  const __u32 count = deltas >> LB4_FLOW_HOPS_SHIFT & ((1 << (LB4_FLOW_TAG_SHIFT - LB4_FLOW_HOPS_SHIFT)) - 1);
  rewrite->wrapped_by = most == IPIP_BYTES ? IPIP_BYTES : GUE_BYTES + 4 * count;
  rewrite->outer.source = READ_ONCE(hop->word[LB4_HOP_TUNNEL_SOURCE]);
  rewrite->outer.destination = READ_ONCE(hop->word[LB4_HOP_TUNNEL_DESTINATION]);
  rewrite->outer.ports = (deltas & 0xffff) | (tunnel & 0xffff0000);
  return most != 0;
}

// A copy of what is to be done with a packet of `length` bytes on the wire, as one writer left it: where its flow's state or its next hop's
// version is another one after the copy, what was copied may be half of the old and half of the new, and the packet goes up. (x86 keeps loads in order, and TypeScript's stores;
// on other processors neither does.)
INLINE int copy_rewrite(const struct flow* flow, __u32 state, __u32 worker, __u32 length, struct rewrite* rewrite) {
  rewrite->now = (__u32)(bpf_ktime_get_coarse_ns() / 1000000);
  // First, and once more at the end: what a flow that follows a table is wrapped in changes between them.
  const __u32 deltas = READ_ONCE(flow->word[LB4_FLOW_DELTAS]);
  rewrite->to.source = READ_ONCE(flow->word[LB4_FLOW_NEW_SOURCE]);
  rewrite->to.destination = READ_ONCE(flow->word[LB4_FLOW_NEW_DESTINATION]);
  rewrite->to.ports = READ_ONCE(flow->word[LB4_FLOW_NEW_PORTS]);
  rewrite->address_delta = deltas >> 16;
  rewrite->transport_delta = deltas & 0xffff;
  const __u32 place = worker * LB4_HOP_ENTRIES + READ_ONCE(flow->word[LB4_FLOW_NEXT_HOP]);
  const struct hop* hop = bpf_map_lookup_elem(&hops, &place);
  if (!hop) return 0;
  const __u32 version = READ_ONCE(hop->word[LB4_HOP_VERSION]);
  rewrite->wrapped_by = 0;
  // The verifier wants all written that a compiler may move about.
  rewrite->outer = (struct tuple){0, 0, 0};
  const struct hop* const tables = state & LB4_FLOW_WRAPPED ? tables_of(worker) : 0;
  if (state & LB4_FLOW_WRAPPED && (settings.is_inline || !is_current(deltas, tables) || !copy_tunnel(hop, deltas, rewrite))) return 0;
  if (version & 1 || length > READ_ONCE(hop->word[LB4_HOP_MTU]) || READ_ONCE(hop->word[LB4_HOP_OUT]) != LB4_FRAME_SEND) return 0;
  rewrite->interface = READ_ONCE(hop->word[LB4_HOP_INTERFACE]);
#pragma unroll
  for (int i = 0; i < 4; i++) rewrite->ethernet[i] = READ_ONCE(hop->word[LB4_HOP_ETHERNET + i]);
  // A flow that follows a table is written anew in place, once that has changed and before its DELTAS say so.
  if (state & LB4_FLOW_WRAPPED && (READ_ONCE(flow->word[LB4_FLOW_DELTAS]) != deltas || !is_current(deltas, tables))) return 0;
  return READ_ONCE(flow->word[LB4_FLOW_STATE]) == state && READ_ONCE(hop->word[LB4_HOP_VERSION]) == version;
}

// What whoever forwards a packet writes down: when, and TCP's acknowledgement (flow/tcp-evidence.ts; to others the word is nothing); and the kernel's
// own number of bytes, to which they are added in one step: several processors may have packets of one flow. Its flow may have gone meanwhile: its
// slot is not another's so soon (flow/table.ts: REST_MS).
INLINE void account(struct flow* flow, const struct rewrite* rewrite, __u32 payload, __u32 acknowledgement) {
  WRITE_ONCE(flow->word[LB4_FLOW_SEEN], rewrite->now);
  WRITE_ONCE(flow->word[LB4_FLOW_ACKNOWLEDGED], acknowledgement);
  if (payload) __sync_fetch_and_add((__u64*)&flow->word[LB4_FLOW_KERNEL_BYTES], payload);
  count_one();
}

INLINE __u32 fold(__u32 sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  return (sum & 0xffff) + (sum >> 16);
}

// Of an IP header without options: 0 where the one in it is right.
INLINE __u16 header_checksum(const struct iphdr* ip) {
  const __u16* const half = (const __u16*)ip;
  __u32 sum = 0;
#pragma unroll
  for (int i = 0; i < IP_MIN / 2; i++) sum += half[i];
  return ~fold(sum);
}

INLINE void rewrite_ethernet(const struct packet* at, const struct rewrite* rewrite) {
  __u32* const addresses = (__u32*)((void*)at->ethernet + 2);
  *(__u16*)at->ethernet = rewrite->ethernet[0];
  addresses[0] = rewrite->ethernet[1];
  addresses[1] = rewrite->ethernet[2];
  addresses[2] = rewrite->ethernet[3];
}

// All but the transport checksum: Ethernet and IP header, addresses, ports (RFC 1624 equation 3, as in src/forward/pipeline.ts: one less of
// TTL adds 0xfffe to the 16-bit word whose low byte it is). Between interfaces the Ethernet header and TTL stay.
INLINE void rewrite_headers(const struct packet* at, const struct rewrite* rewrite) {
  if (!settings.is_inline) rewrite_ethernet(at, rewrite);
  at->ip->check = ~fold((~at->ip->check & 0xffff) + rewrite->address_delta + (settings.is_inline ? 0 : 0xfffe));
  if (!settings.is_inline) at->ip->ttl--;
  at->ip->saddr = rewrite->to.source;
  at->ip->daddr = rewrite->to.destination;
  *at->transport = rewrite->to.ports;
}
