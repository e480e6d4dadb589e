// The kernel's types and libbpf's macros that this program needs, in the order in which they must come. Nothing of it depends on the
// kernel's version (all are uapi): no CO-RE.
#pragma once

#include <linux/types.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../layout.h"

#define INLINE static __always_inline
// A function of its own to the kernel as well: what is long, and called from several places.
#define APART static __attribute__((noinline))
