// The floor of bench/fastpath, bench/encap and bench/flood: XDP that looks at nothing, writes one Ethernet header and hands the frame on. Compiled
// with -DINTERFACE=… and the two addresses as -DTO=…,… and -DFROM=…,…, and with -DFLOODED to drop what comes from the addresses of floods (198.18.0.0/15).
#include <linux/types.h>

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char floor_license[] SEC("license") = "GPL";

SEC("xdp")
int floor_redirect(struct xdp_md* xdp) {
  __u8* const frame = (void*)(long)xdp->data;
  if (frame + 54 > (__u8*)(long)xdp->data_end) return XDP_PASS;
#ifdef FLOODED
  if (frame[12] == 0x08 && frame[13] == 0 && frame[26] == 198 && (frame[27] & 0xfe) == 18) return XDP_DROP;
#endif
  // Only the generator's frames: 64 bytes, TCP.
  if (frame[12] != 0x08 || frame[13] != 0 || frame[23] != 6) return XDP_PASS;
  static const __u8 addresses[12] = {TO, FROM};
#pragma unroll
  for (int i = 0; i < 12; i++) frame[i] = addresses[i];
  return bpf_redirect(INTERFACE, 0);
}
