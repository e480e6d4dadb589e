// Where bench/fastpath's packets end: as cheaply as can be, for all alike.
#include <linux/types.h>

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("xdp")
int sink(struct xdp_md* xdp __attribute__((unused))) { return XDP_DROP; }
