// The frontends' lists of clients, as one book that the main thread writes whole and puts in the place of the last one (src/engine/access-book.ts):
// so there is no moment in which another list than one of these two is in force.
#pragma once

#include "kernel.h"

struct pair {
  __u32 first;
  __u32 second;
};

// By sizes: what is behind a pointer alone clang leaves out of the types that libbpf reads.
struct book {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(struct pair));
  __uint(max_entries, 1);
};

// The one that is in force, or none.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 1);
  __type(key, __u32);
  __array(values, struct book);
} books SEC(".maps");

// A frontend's place in it.
struct frontend {
  __u32 index;
  __u32 flags;
  // Its list.
  __u32 list;
};

INLINE void* book_in_force(void) {
  const __u32 first = 0;
  return bpf_map_lookup_elem(&books, &first);
}

// Returns 0 where the book has no such pair.
INLINE int read_pair(void* book, __u32 place, struct pair* pair) {
  const struct pair* const found = bpf_map_lookup_elem(book, &place);
  if (!found) return 0;
  *pair = *found;
  return 1;
}

// endpointHash() of src/forward/endpoints.ts. `port` as in a packet, with the protocol above it.
INLINE __u32 home_in_book(__u32 address, __u32 port) {
  return (address ^ address >> 16 ^ port * 0x9e3779b1) * 0x85ebca6b >> 12;
}

INLINE int find_frontend(void* book, __u32 address, __u32 port, struct frontend* frontend) {
  struct pair pair;
  if (!read_pair(book, 0, &pair)) return 0;
  const __u32 last = pair.first;
  const __u32 home = home_in_book(address, port);
  for (__u32 probe = 0; probe < LB4_EARLY_PLACE_PROBES; probe++) {
    const __u32 place = 1 + LB4_EARLY_PLACE_PAIRS * ((home + probe) & last);
    if (!read_pair(book, place, &pair) || !pair.second) return 0;
    if (pair.first != address || pair.second != port) continue;
    if (!read_pair(book, place + 1, &pair)) return 0;
    *frontend = (struct frontend){pair.second & ((1 << LB4_EARLY_INDEX_BITS) - 1), pair.second, pair.first};
    return 1;
  }
  return 0;
}

// The rule that an address, in host order, comes under in a list (ruleOf() of src/access/prefix-table.ts); 0: none, or the book is broken.
INLINE __u32 rule_of(void* book, __u32 list, __u32 address) {
  struct pair head, pair;
  if (!list || !read_pair(book, list, &head) || !head.first) return 0;
  const __u32 place = head.second > 31 ? 0 : address >> head.second;
  if (!read_pair(book, list + LB4_EARLY_LIST_PAIRS + place, &pair)) return 0;
  __u32 low = pair.first;
  __u32 high = pair.second;
  for (int step = 0; step < LB4_EARLY_STEPS && low < high; step++) {
    const __u32 middle = (low + high + 1) >> 1;
    if (!read_pair(book, head.first + middle, &pair)) return 0;
    if (pair.first <= address) low = middle;
    else high = middle - 1;
  }
  return read_pair(book, head.first + low, &pair) ? pair.second : 0;
}
