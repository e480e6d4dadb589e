// First packets that user space would end without a word, and count: dropped here, and counted for it (src/engine/early-drops.ts). In its order
// (src/forward/slow-path.ts: unknownPacket): what is no whole segment or datagram, or has a flow, is up to user space; then the frontend's lists; then,
// while SYNs flood, whether a SYN has come before. What is to be answered goes up, and so does what is only to be counted.
#pragma once

#include "access.h"
#include "links.h"
#include "parse.h"
#include "rewrite.h"
#include "syn_guard.h"

struct drops {
  __u64 column[LB4_EARLY_COLUMNS];
};

// By frontend, then by worker (layout/early-drop.ts).
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __type(key, __u32);
  __type(value, struct drops);
  __uint(max_entries, 1);  // the loader knows
} drops SEC(".maps");

INLINE void count_drop(__u32 row, __u32 column) {
  struct drops* const numbers = bpf_map_lookup_elem(&drops, &row);
  if (numbers) numbers->column[column & (LB4_EARLY_COLUMNS - 1)]++;
}

// What a first packet is judged by.
struct first {
  struct tuple key;
  __u32 protocol;
  // It is a SYN, with this number as it stands there.
  __u32 opens;
  __u32 sequence;
};

// Returns 0 where it is no whole segment or datagram (src/forward/parse.ts; `describe` of src/flow/tcp.ts and udp.ts), or may be no first one: a datagram
// to a port of ours may be an answer.
INLINE int read_first(const struct packet* at, const void* end, __u32 room, struct first* first) {
  const __u32 length = length_of(at, room);
  if (!length || header_checksum(at->ip)) return 0;
  *first = (struct first){.key = tuple_of(at), .protocol = at->ip->protocol};
  if (first->protocol == IPPROTO_TCP) {
    if (!tcp_header(at, end, length)) return 0;
    first->opens = tcp_control(at) == TCP_SYN;
    first->sequence = ((const struct tcphdr*)at->transport)->seq;
    return 1;
  }
  const __u32 own = bpf_ntohs(((const struct udphdr*)at->transport)->len);
  const __u32 port = bpf_ntohs(first->key.ports >> 16);
  return first->protocol == IPPROTO_UDP && length >= IP_MIN + UDP_HEADER && own >= UDP_HEADER && own <= length - IP_MIN &&
         (port < settings.first_port || port > settings.last_port);
}

// Whether clients come by an interface: between interfaces only by some.
INLINE int is_front(__u32 interface) {
  if (!settings.is_inline) return 1;
  const struct link* const link = link_of(interface);
  return link && link->is_front;
}

// Whether a frame of which no flow was given to the kernel ends here. It is counted, and remembered, if `is_real`; HEADERS_MIN bytes of it are there, up
// to `end` they can be read.
APART int is_dropped(const struct packet* at, const void* end, __u32 room, __u32 interface, int is_real) {
  const __u32 asked = what_is_asked();
  struct first first;
  if (asked == LB4_EARLY_NOTHING || !read_first(at, end, room, &first) || !is_front(interface)) return 0;
  const struct tuple key = first.key;
  const __u32 worker = worker_of(&key);
  const __u32 marks = first.opens ? marks_of(worker) : 0;
  if (!marks && asked != LB4_EARLY_LISTS) return 0;
  void* const book = book_in_force();
  struct frontend frontend;
  if (!book || !find_frontend(book, key.destination, key.ports >> 16 | first.protocol << 16, &frontend)) return 0;
  const __u32 rule = rule_of(book, frontend.list, bpf_ntohl(key.source));
  const int is_denied = rule && !(frontend.flags & LB4_EARLY_DRY_RUN);
  if (is_denied ? frontend.flags & LB4_EARLY_RESETS : !marks) return 0;
  __u32 state = 0;
  if (find_live(&key, first.protocol, worker, &state)) return 0;
  if (!is_denied && has_come(&key, first.sequence, worker, marks, is_real)) return 0;
  if (!is_real) return 1;
  if (rule) count_drop(frontend.index, is_denied ? rule : LB4_COUNTER_REFUSED_DRY + rule);
  count_drop(LB4_COUNTER_MAX_FRONTENDS + worker, is_denied ? LB4_EARLY_DENIED : LB4_EARLY_FIRST_SYNS);
  return 1;
}
