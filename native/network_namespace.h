// What tells one network namespace from every other since the host has started, also from one that was removed.
#pragma once

#include <cstdint>

namespace lb4 {

// The namespace's cookie (SO_NETNS_COOKIE, since Linux 5.14); 0 where the kernel has none.
uint64_t networkCookie();

}  // namespace lb4
