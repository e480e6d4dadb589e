#include "fanout.h"

#include <fcntl.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <string>

#include "descriptor.h"
#include "error.h"

namespace lb4 {
namespace {

// The option's value: the group's number, what kind it is of << 16. UNIQUEID: the kernel finds a number that nobody has.
uint32_t newGroup(uint32_t kind) { return (kind | PACKET_FANOUT_FLAG_UNIQUEID) << 16; }

int join(int fd, uint32_t group) { return ::setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &group, sizeof group); }

void checkSocket(int fd) {
  check(::fcntl(fd, F_GETFD), "setsockopt(PACKET_FANOUT)");
  if (!hasSocketOption(fd, SO_DOMAIN, AF_PACKET)) throw SystemError(EINVAL, "setsockopt(PACKET_FANOUT: not a packet socket)");
}

// Fragments have no ports to go by. A fanout group may have the kernel reassemble them first, within its own limits of memory
// and time (ipfrag_high_thresh, ipfrag_time in ip-sysctl.rst). Where a kernel refuses, fragments come as they are, and the
// pipeline counts them. By CPU: the cheapest way to choose among one.
void askForWholePackets(int fd) { join(fd, newGroup(PACKET_FANOUT_CPU | PACKET_FANOUT_FLAG_DEFRAG)); }

// What the others join by: the number, kind and flags that the kernel tells of the first one's group.
uint32_t openGroup(int fd) {
  if (join(fd, newGroup(PACKET_FANOUT_CBPF | PACKET_FANOUT_FLAG_DEFRAG)) < 0)
    check(join(fd, newGroup(PACKET_FANOUT_CBPF)), "setsockopt(PACKET_FANOUT, CBPF)");
  uint32_t group = 0;
  socklen_t bytes = sizeof group;
  check(::getsockopt(fd, SOL_PACKET, PACKET_FANOUT, &group, &bytes), "getsockopt(PACKET_FANOUT)");
  return group;
}

void steerBy(int fd, const std::vector<sock_filter>& program) {
  const sock_fprog words = {static_cast<unsigned short>(program.size()), const_cast<sock_filter*>(program.data())};
  check(::setsockopt(fd, SOL_PACKET, PACKET_FANOUT_DATA, &words, sizeof words), "setsockopt(PACKET_FANOUT_DATA)");
}

Fd duplicate(int fd) { return Fd(check(::fcntl(fd, F_DUPFD_CLOEXEC, 0), "fcntl(F_DUPFD_CLOEXEC)")); }

}  // namespace

void steer(int fd, const std::vector<sock_filter>& program) {
  checkSocket(fd);
  steerBy(fd, program);
}

// The program first: without one every frame is the first socket's. Who joins gets the next number
// (net/packet/af_packet.c, __fanout_link).
std::vector<Fd> fanOut(const std::vector<int>& fds, const std::vector<sock_filter>& program) {
  for (const int fd : fds) checkSocket(fd);
  std::vector<Fd> places;
  for (const int fd : fds) places.push_back(duplicate(fd));
  if (fds.size() == 1) {
    askForWholePackets(fds.front());
    return places;
  }
  const uint32_t group = openGroup(fds.front());
  steerBy(fds.front(), program);
  for (size_t i = 1; i < fds.size(); i++) {
    const std::string attempted = "setsockopt(PACKET_FANOUT, socket " + std::to_string(i + 1) + " of " + std::to_string(fds.size()) + ")";
    check(join(fds[i], group), attempted.c_str());
  }
  return places;
}

}  // namespace lb4
