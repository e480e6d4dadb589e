// The interfaces that the fast path stands at (layout/links.ts).
#pragma once

#include "kernel.h"

struct link {
  __u32 interface;
  __u8 address[6];
  __u8 is_virtual;
  __u8 takes_redirected;
  // tc takes its frames (between interfaces alone: lb4_tap).
  __u8 has_tc;
  // Clients come by it (between interfaces alone).
  __u8 is_front;
  __u8 unused[2];
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __type(key, __u32);
  __type(value, struct link);
  __uint(max_entries, LB4_LINK_PLACES);
} links SEC(".maps");

INLINE const struct link* link_of(__u32 interface) {
#pragma unroll
  for (__u32 probe = 0; probe < LB4_LINK_PROBES; probe++) {
    __u32 place = (interface + probe) % LB4_LINK_PLACES;
    const struct link* link = bpf_map_lookup_elem(&links, &place);
    if (link && link->interface == interface) return link;
  }
  return 0;
}
