// The floor of bench/fastpath and bench/encap: XDP that looks at nothing, writes one Ethernet header and hands the frame on. Compiled with
// -DINTERFACE=… and the two addresses as -DTO=…,… and -DFROM=…,….
#include <linux/types.h>

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char floor_license[] SEC("license") = "GPL";

SEC("xdp")
int floor_redirect(struct xdp_md* xdp) {
  __u8* const frame = (void*)(long)xdp->data;
  if (frame + 54 > (__u8*)(long)xdp->data_end) return XDP_PASS;
  // Only the generator's frames: 64 bytes, TCP.
  if (frame[12] != 0x08 || frame[13] != 0 || frame[23] != 6) return XDP_PASS;
  static const __u8 addresses[12] = {TO, FROM};
#pragma unroll
  for (int i = 0; i < 12; i++) frame[i] = addresses[i];
  return bpf_redirect(INTERFACE, 0);
}
