#include "datagram.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "descriptor.h"

namespace lb4 {
namespace {

constexpr size_t CONTROL = CMSG_SPACE(sizeof(int) * MAX_DESCRIPTORS);

struct Address {
  sockaddr_un un{};
  socklen_t length = 0;
};

Address addressOf(const std::string& path) {
  Address address;
  address.un.sun_family = AF_UNIX;
  std::memcpy(address.un.sun_path, path.data(), std::min(path.size(), sizeof address.un.sun_path - 1));
  if (path.front() == '@') address.un.sun_path[0] = '\0';
  // An abstract name ends where the length says; a path has its NUL.
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (path.front() == '@' ? 0 : 1));
  return address;
}

Fd open() { return Fd(check(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket(AF_UNIX)")); }

bool isDatagramSocket(int fd) {
  check(::fcntl(fd, F_GETFD), "recvmsg()");
  return hasSocketOption(fd, SO_DOMAIN, AF_UNIX) && hasSocketOption(fd, SO_TYPE, SOCK_DGRAM);
}

// Whatever came, so that it is closed.
std::vector<Fd> descriptorsIn(msghdr& message) {
  std::vector<Fd> found;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      found.emplace_back(fd);
    }
  }
  return found;
}

}  // namespace

Fd openDatagram(const std::string& path) {
  Fd fd = open();
  const Address address = addressOf(path);
  // Before it is there for others: its file gets the socket's mode, less the umask (unix_bind in the kernel).
  check(::fchmod(fd.get(), S_IRUSR | S_IWUSR), "fchmod(socket)");
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.un), address.length) < 0)
    throw SystemError(errno, "bind(" + path + ")");
  return fd;
}

void sendDatagram(const std::string& path, const std::string& text, const std::vector<int>& descriptors) {
  if (!std::all_of(descriptors.begin(), descriptors.end(), isListening))
    throw SystemError(EINVAL, "sendmsg(not a listening socket)");
  const Fd fd = open();
  Address address = addressOf(path);
  iovec part{const_cast<char*>(text.data()), text.size()};
  alignas(cmsghdr) char control[CONTROL] = {};
  msghdr message{};
  message.msg_name = &address.un;
  message.msg_namelen = address.length;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    const size_t bytes = descriptors.size() * sizeof(int);
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(bytes);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(bytes);
    std::memcpy(CMSG_DATA(header), descriptors.data(), bytes);
  }
  if (::sendmsg(fd.get(), &message, MSG_NOSIGNAL) < 0) throw SystemError(errno, "sendmsg(" + path + ")");
}

Datagram receiveDatagram(int fd) {
  if (!isDatagramSocket(fd)) throw SystemError(EINVAL, "recvmsg(not a datagram socket)");
  Datagram datagram;
  datagram.text.resize(MAX_DATAGRAM);
  iovec part{datagram.text.data(), datagram.text.size()};
  alignas(cmsghdr) char control[CONTROL] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t bytes = ::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (bytes < 0) throw SystemError(errno, "recvmsg()");
  datagram.text.resize(static_cast<size_t>(bytes));
  datagram.descriptors = descriptorsIn(message);
  const bool areOurs = std::all_of(datagram.descriptors.begin(), datagram.descriptors.end(),
                                   [](const Fd& one) { return isListening(one.get()); });
  if (!areOurs || (message.msg_flags & MSG_CTRUNC) != 0) throw SystemError(EINVAL, "recvmsg(not listening sockets alone)");
  return datagram;
}

}  // namespace lb4
