// Listening TCP sockets that several threads accept from.
#pragma once

#include <cstdint>
#include <string>

#include "fd.h"

namespace lb4 {

// A listening socket on an IPv4 or IPv6 address in text and a port in host order. An IPv6 socket takes no IPv4, so that
// 0.0.0.0 and :: can both be listened on. The kernel caps `backlog` at net.core.somaxconn. EINVAL: not an address.
Fd listenTcp(const std::string& host, uint16_t port, int backlog);

// Another descriptor of the same listening socket: F_DUPFD_CLOEXEC. EINVAL: it is none.
Fd duplicateFd(int fd);

}  // namespace lb4
