#include "listen_socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "descriptor.h"

namespace lb4 {
namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

Address parse(const std::string& host, uint16_t port) {
  Address address;
  auto* const v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  auto* const v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address.length = sizeof *v4;
  } else if (::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address.length = sizeof *v6;
  } else {
    throw SystemError(EINVAL, "bind(" + host + ": not an address)");
  }
  return address;
}

// Passes a result on, or throws what errno says with the address in the message: a host listens on many.
int checkAt(int result, const char* call, const std::string& where) {
  if (result < 0) throw SystemError(errno, std::string(call) + "(" + where + ")");
  return result;
}

int enable(const Fd& fd, int level, int option) {
  const int on = 1;
  return ::setsockopt(fd.get(), level, option, &on, sizeof on);
}

}  // namespace

Fd listenTcp(const std::string& host, uint16_t port, int backlog) {
  const Address address = parse(host, port);
  const std::string where = host + " port " + std::to_string(port);
  const int family = address.storage.ss_family;
  Fd fd(checkAt(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP), "socket", where));
  checkAt(enable(fd, SOL_SOCKET, SO_REUSEADDR), "setsockopt", where);
  if (family == AF_INET6) checkAt(enable(fd, IPPROTO_IPV6, IPV6_V6ONLY), "setsockopt", where);
  checkAt(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length), "bind", where);
  checkAt(::listen(fd.get(), backlog), "listen", where);
  return fd;
}

Fd duplicateFd(int fd) {
  Fd copy(check(::fcntl(fd, F_DUPFD_CLOEXEC, 0), "fcntl(F_DUPFD_CLOEXEC)"));
  if (!isListening(copy.get())) throw SystemError(EINVAL, "fcntl(F_DUPFD_CLOEXEC: not a listening socket)");
  return copy;
}

}  // namespace lb4
