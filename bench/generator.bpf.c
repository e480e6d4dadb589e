// The generator of bench/fastpath: each run takes the next of the frames that are made, and sends it out of an interface. Run by
// BPF_PROG_TEST_RUN with live frames, so that what is measured begins where a network card's driver has a frame: no system call, no skb.
#include <linux/types.h>

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char generator_license[] SEC("license") = "GPL";

struct frame {
  __u32 word[15];
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __type(key, __u32);
  __type(value, struct frame);
  __uint(max_entries, 1);  // generator.c knows
} frames SEC(".maps");

const volatile __u32 count;
const volatile __u32 interface;
__u32 next;

SEC("xdp")
int generate(struct xdp_md* xdp) {
  __u32* const to = (void*)(long)xdp->data;
  if ((void*)(to + 15) > (void*)(long)xdp->data_end) return XDP_DROP;
  next = next + 1 < count ? next + 1 : 0;
  __u32 place = next;
  const struct frame* from = bpf_map_lookup_elem(&frames, &place);
  if (!from) return XDP_DROP;
#pragma unroll
  for (int i = 0; i < 15; i++) to[i] = from->word[i];
  return bpf_redirect(interface, 0);
}
