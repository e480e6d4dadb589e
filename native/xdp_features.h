// What a driver can do with XDP, as the kernel says it (netdev of generic netlink, Linux 6.3).
#pragma once

#include <cstdint>
#include <optional>

namespace lb4 {

// Whether an interface sends frames that XDP redirects to it; those that do not lose them. Nothing where the kernel does not say.
std::optional<bool> takesRedirected(int32_t ifindex);

}  // namespace lb4
