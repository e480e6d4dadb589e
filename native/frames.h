// What C++ adds to layout.h about the frames of a batch, which src/layout/frames.ts explains.
#pragma once

// The kernel's header names a field `class`; it includes nothing but other C headers.
#define class class_
#include <linux/virtio_net.h>
#undef class

#include <cstdint>

#include "layout.h"

namespace lb4 {

constexpr uint32_t ETHERNET_BYTES = 14;
constexpr uint32_t VNET_BYTES = sizeof(virtio_net_hdr);
// From the virtio-net header to the IP header.
constexpr uint32_t HEAD_BYTES = VNET_BYTES + ETHERNET_BYTES;
// A VLAN tag (IEEE 802.1Q), which stands between the addresses and the EtherType.
constexpr uint32_t TAG_BYTES = 4;
constexpr uint32_t ADDRESSES_BYTES = 12;

static_assert(VNET_BYTES == 10, "PACKET_VNET_HDR uses the legacy header, without num_buffers");
static_assert(HEAD_BYTES == 24, "src/layout/frames.ts draws the virtio-net header at OFFSET-24");

}  // namespace lb4
