// Whether a client comes another way than the answers to it go, as it does when its router has got another MAC address (src/forward/way-back.ts).
#pragma once

#include "rewrite.h"
#include "table.h"

// Of the packet at `at`, which goes by `flow` as `rewrite` has it: it goes up to be seen. Asked of a flow once a second, since a second look-up in the
// table costs as much as the first: of an answer, whose server may well come another way, nothing is found that was learnt.
INLINE int strays(const struct flow* flow, const struct packet* at, const struct rewrite* rewrite, __u32 worker, __u32 interface) {
  if (settings.is_inline || rewrite->wrapped_by || (rewrite->now ^ READ_ONCE(flow->word[LB4_FLOW_SEEN])) >> 10 == 0) return 0;
  const __u32 ports = rewrite->to.ports;
  const struct tuple answer = {rewrite->to.destination, rewrite->to.source, ports << 16 | ports >> 16};
  __u32 state = 0;
  const struct flow* const answers = find(&answer, at->ip->protocol, worker, &state);
  const __u32 hop = answers ? READ_ONCE(answers->word[LB4_FLOW_NEXT_HOP]) : 0;
  if (hop < LB4_HOP_SERVER_HOPS || hop >= LB4_HOP_HOPS) return 0;
  const __u32 place = worker * LB4_HOP_ENTRIES + hop;
  const struct hop* const back = bpf_map_lookup_elem(&hops, &place);
  if (!back || READ_ONCE(back->word[LB4_HOP_OUT]) != LB4_FRAME_SEND) return 0;
  // In halves: a copy of a frame on the stack, which lb4_tap has, is read at no other places.
  const __u16* const sender = (const __u16*)at->ethernet->h_source;
  const __u32 last = READ_ONCE(back->word[LB4_HOP_ETHERNET + 1]);
  return READ_ONCE(back->word[LB4_HOP_INTERFACE]) != interface || (__u16)READ_ONCE(back->word[LB4_HOP_ETHERNET]) != sender[0] ||
         (__u16)last != sender[1] || last >> 16 != sender[2];
}
