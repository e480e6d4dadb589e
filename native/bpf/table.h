// The flow table of src/flow/table.ts, read: the same hash, the same homes, the same bound.
#pragma once

#include "packet.h"
#include "settings.h"

struct flow {
  __u32 word[LB4_FLOW_ENTRY];
};

// One map for all workers, each of which has settings.entries of its own.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct flow);
  __uint(max_entries, 1);  // the loader knows
} flows SEC(".maps");

// A word that another processor may be writing: read once, whole.
#define READ_ONCE(word) (*(const volatile __typeof__(word)*)&(word))
#define WRITE_ONCE(word, value) (*(volatile __typeof__(word)*)&(word) = (value))

// What a key is compared by. Addresses and ports as they stand in the packet.
struct tuple {
  __u32 source;
  __u32 destination;
  __u32 ports;
};

INLINE struct tuple tuple_of(const struct packet* at) {
  return (struct tuple){at->ip->saddr, at->ip->daddr, *at->transport};
}

// flow/table.ts: hashTuple().
INLINE __u32 hash_of(const struct tuple* key) {
  __u32 h = (key->source ^ settings.key[0]) * settings.key[1];
  h ^= h >> 15;
  h = (h + (key->ports ^ key->ports >> 16)) * settings.key[2];
  h ^= h >> 15;
  return (h + key->destination) * settings.key[3];
}

INLINE __u32 home_of(const struct tuple* key) {
  return ((__u64)hash_of(key) * settings.homes) >> 32;
}

// packet/steering.ts: scramble().
INLINE __u32 scramble(__u32 x) {
  x = (x ^ (x >> 16)) * 0x7feb352d;
  x = (x ^ (x >> 15)) * 0x846ca68b;
  return x ^ (x >> 16);
}

// packet/steering.ts: workerOfClient().
INLINE __u32 worker_of_client(__u32 address, __u32 port) {
  return scramble(scramble(bpf_ntohl(address) ^ settings.steering_key) + port) % settings.workers;
}

// packet/steering.ts: workerOf(), of a packet to this host.
INLINE __u32 worker_of(const struct tuple* key) {
  if (settings.workers == 1) return 0;
  const __u32 to = bpf_ntohs(key->ports >> 16);
  if (to >= settings.first_port && to <= settings.last_port) return (to - settings.first_port) % settings.workers;
  const __u32 from = bpf_ntohs(key->ports & 0xffff);
  return worker_of_client(key->source, from);
}

// The same of one to somebody else, which only a server can have sent to its client (nat = "destination").
INLINE __u32 worker_of_answer(const struct tuple* key) {
  return settings.workers == 1 ? 0 : worker_of_client(key->destination, bpf_ntohs(key->ports >> 16));
}

// The live flow of a protocol by its key; null where there is none. `state` is its STATE word when it was found.
INLINE struct flow* find_live(const struct tuple* key, __u32 protocol, __u32 worker, __u32* state) {
  const __u32 wanted = LB4_FLOW_LIVE | protocol << LB4_FLOW_PROTOCOL_SHIFT;
  __u32 slot = worker * settings.entries + home_of(key);
  for (int probe = 0; probe < LB4_FLOW_PROBES; probe++, slot++) {
    struct flow* flow = bpf_map_lookup_elem(&flows, &slot);
    if (!flow) return 0;
    const __u32 seen = READ_ONCE(flow->word[LB4_FLOW_STATE]);
    if ((seen & LB4_FLOW_PRESENCE) == LB4_FLOW_EMPTY) return 0;
    if ((seen & LB4_FLOW_KEYED) != wanted || READ_ONCE(flow->word[LB4_FLOW_SOURCE]) != key->source ||
        READ_ONCE(flow->word[LB4_FLOW_PORTS]) != key->ports || READ_ONCE(flow->word[LB4_FLOW_DESTINATION]) != key->destination)
      continue;
    *state = seen;
    return flow;
  }
  return 0;
}

// The same that TypeScript has given to the kernel, and has not taken back.
INLINE struct flow* find(const struct tuple* key, __u32 protocol, __u32 worker, __u32* state) {
  struct flow* const flow = find_live(key, protocol, worker, state);
  return flow && *state & LB4_FLOW_FAST ? flow : 0;
}
