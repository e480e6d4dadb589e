// What does not change while a table lives: constants to the verifier, which folds them. Written by the loader into .rodata before the
// program is loaded (native/bpf_loader.cc).
#pragma once

#include "kernel.h"

struct settings {
  // layout/header.ts: KEY. The seed and the multipliers of the flow table's hash.
  __u32 key[4];
  // Homes of a worker's flow table, and how many entries each worker has in the map, those behind the last home included.
  __u32 homes;
  __u32 entries;
  __u32 workers;
  // packet/steering.ts: steeringKey().
  __u32 steering_key;
  // layout/ports.ts: CLIENT_PORTS.
  __u32 first_port;
  __u32 last_port;
  // It stands between interfaces: frames to anybody, whose Ethernet header and TTL stay.
  __u32 is_inline;
};

const volatile struct settings settings = {};
