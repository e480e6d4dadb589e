// While SYNs flood, one is taken in when it comes the second time: the sketch of src/forward/syn-sketch.ts, in the same memory. A worker says whether
// there is a flood, and which bits are now's; it ages the sketch, and marks what comes up, as this marks what does not.
#pragma once

#include "table.h"

union line {
  __u8 cell[1 << LB4_EARLY_LINE_SHIFT];
  __u32 word[LB4_EARLY_LINE_WORDS];
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, union line);
  __uint(max_entries, 1);  // the loader knows
} syns SEC(".maps");

INLINE union line* line_at(__u32 place) {
  return bpf_map_lookup_elem(&syns, &place);
}

// What is asked of first packets (layout/early-drop.ts).
INLINE __u32 what_is_asked(void) {
  const union line* const line = line_at(0);
  return line ? READ_ONCE(line->word[LB4_EARLY_ASKED]) : LB4_EARLY_NOTHING;
}

INLINE __u32 first_line_of(__u32 worker) {
  return 1 + worker * LB4_EARLY_WORKER_LINES;
}

// 0: there is no flood.
INLINE __u32 marks_of(__u32 worker) {
  const union line* const line = line_at(first_line_of(worker));
  return line ? READ_ONCE(line->word[LB4_EARLY_MARKS]) : 0;
}

// SynSketch.see(). One that comes for the first time is marked if `is_real`. Several processors, and the worker, write cells with no more than a
// load and a store: where two meet a mark is lost, and that client's third SYN is taken in for its second.
INLINE int has_come(const struct tuple* key, __u32 sequence, __u32 worker, __u32 marks, int is_real) {
  const __u32 mixed = (hash_of(key) ^ sequence) * settings.key[1];
  union line* const line = line_at(first_line_of(worker) + 1 + (mixed >> (32 - LB4_EARLY_LINES_SHIFT)));
  if (!line) return 1;
  const __u32 choice = (mixed ^ mixed >> 15) * settings.key[2];
  const __u32 last = (1 << LB4_EARLY_LINE_SHIFT) - 1;
  __u8* const a = &line->cell[choice >> 26 & last];
  __u8* const b = &line->cell[choice >> 20 & last];
  __u8* const c = &line->cell[choice >> 14 & last];
  __u8* const d = &line->cell[choice >> 8 & last];
  if (*a & *b & *c & *d & marks >> LB4_EARLY_PROVING_SHIFT) return 1;
  if (!is_real) return 0;
  *a |= marks;
  *b |= marks;
  *c |= marks;
  *d |= marks;
  return 0;
}
