#include "network_namespace.h"

#include <sys/socket.h>

#include "error.h"
#include "fd.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace lb4 {

uint64_t networkCookie() {
  const Fd fd(check(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket(AF_UNIX)"));
  uint64_t cookie = 0;
  socklen_t bytes = sizeof cookie;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &bytes) == 0) return cookie;
  if (errno == ENOPROTOOPT) return 0;
  throw SystemError(errno, "getsockopt(SO_NETNS_COOKIE)");
}

}  // namespace lb4
