// The descriptor array of a batch. The same numbers as src/packet/frames.ts, which explains them; test/unit/native.test.ts
// compares the two files.
#pragma once

// The kernel's header names a field `class`; it includes nothing but other C headers.
#define class class_
#include <linux/virtio_net.h>
#undef class

#include <cstdint>

namespace lb4 {

enum FrameLayout : uint32_t {
  HEADER = 8,
  CLOCK = 0,
  REFUSED = 1,
  STRIDE = 8,
  OFFSET = 0,
  LENGTH = 1,
  INTERFACE = 2,
  FLAGS = 3,
  OUT = 4,
  SCRATCH = 5,
  LIMIT = 6,
  BATCH = 64,
};

enum FrameFlag : uint32_t {
  FLAG_PARTIAL = 1,
  FLAG_GSO = 2,
  FLAG_TRUNCATED = 4,
  FLAG_NO_ETHERNET = 8,
  FLAG_BIG = 16,
  FLAG_CUT = 32,
};

enum FrameOut : int32_t {
  DROP = 0,
  SEND = 1,
  ROUTE = 2,
};

constexpr uint32_t ETHERNET_BYTES = 14;
constexpr uint32_t VNET_BYTES = sizeof(virtio_net_hdr);
// From the virtio-net header to the IP header.
constexpr uint32_t HEAD_BYTES = VNET_BYTES + ETHERNET_BYTES;

static_assert(VNET_BYTES == 10, "PACKET_VNET_HDR uses the legacy header, without num_buffers");
static_assert(HEAD_BYTES == 24, "src/packet/frames.ts draws the virtio-net header at OFFSET-24");
static_assert(SCRATCH < STRIDE && REFUSED < HEADER, "words lie inside their group");
static_assert((HEADER + BATCH * STRIDE) * 4 == 2080, "one batch of descriptors fits the first-level cache with room");

}  // namespace lb4
