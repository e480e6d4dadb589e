// Several packet sockets that share the frames of a network namespace: a fanout group (packet(7)).
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <vector>

#include "fd.h"

namespace lb4 {

// What a group has room for (net/packet/af_packet.c).
constexpr uint32_t MAX_FANOUT = 256;

// Has the kernel put fragments together before the sockets' filters see them, and give each frame to the socket whose place
// in `fds` the program returns. With one socket, which gets everything, the program is not used. The sockets must be bound.
// Returns a duplicate of each: while it is open its socket keeps its place, whoever closes the other.
std::vector<Fd> fanOut(const std::vector<int>& fds, const std::vector<sock_filter>& program);

// Has a group go by another program from now on: that of one of its sockets, which is one of several.
void steer(int fd, const std::vector<sock_filter>& program);

}  // namespace lb4
