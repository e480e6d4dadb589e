// Unix datagrams with descriptors in them: what lb4 hands to the one that takes over, and what it tells systemd (sd_notify(3)).
#pragma once

#include <string>
#include <vector>

#include "fd.h"

namespace lb4 {

// The kernel's SCM_MAX_FD.
constexpr size_t MAX_DESCRIPTORS = 253;
// Of one message.
constexpr size_t MAX_DATAGRAM = 65536;
// sockaddr_un's sun_path, with its NUL.
constexpr size_t MAX_SOCKET_PATH = 107;

struct Datagram {
  std::string text;
  std::vector<Fd> descriptors;
};

// A socket that receives datagrams at `path`, where nothing may be yet. Non-blocking.
Fd openDatagram(const std::string& path);

// Sends one, with copies of listening sockets, and does not wait: EAGAIN where nobody reads. A path that begins with '@' is an
// abstract name (unix(7)). EINVAL: one of the descriptors is no listening socket.
void sendDatagram(const std::string& path, const std::string& text, const std::vector<int>& descriptors);

// The next one; EAGAIN where there is none. EINVAL: `fd` is no such socket, or what came with it are other things than listening
// sockets, which are closed.
Datagram receiveDatagram(int fd);

}  // namespace lb4
