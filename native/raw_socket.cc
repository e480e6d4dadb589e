#include "raw_socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "checksum.h"

namespace lb4 {
namespace {

// raw(7): the kernel overwrites the total length with the length sent, so Ethernet padding must not be sent along.
size_t totalLength(const uint8_t* packet, size_t length) {
  const size_t total = static_cast<size_t>(packet[2]) << 8 | packet[3];
  return total != 0 && total < length ? total : length;
}

}  // namespace

// IPPROTO_RAW implies IP_HDRINCL and receives nothing (raw(7)).
RawSocket::RawSocket()
    : fd_(check(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW), "socket(AF_INET, SOCK_RAW)")) {}

void RawSocket::passOverLearntMtus() {
  const int how = IP_PMTUDISC_PROBE;
  check(::setsockopt(fd_.get(), IPPROTO_IP, IP_MTU_DISCOVER, &how, sizeof how), "setsockopt(IP_MTU_DISCOVER)");
}

int RawSocket::send(uint8_t* packet, size_t length, bool partial) {
  if (length < 20) return EINVAL;
  length = totalLength(packet, length);
  if (length < 20 || (packet[0] & 15) * 4u > length) return EINVAL;
  if (partial && !finishPartialChecksum(packet, length)) return EINVAL;
  sockaddr_in to{};
  to.sin_family = AF_INET;
  std::memcpy(&to.sin_addr, packet + 16, 4);
  // The kernel routes by the socket's source, not the header's (raw_sendmsg), and would pass over rules by source address:
  // IP_PKTINFO tells it (ip(7)).
  struct {
    alignas(cmsghdr) char bytes[CMSG_SPACE(sizeof(in_pktinfo))] = {};
  } control;
  iovec data = {packet, length};
  msghdr message{};
  message.msg_name = &to;
  message.msg_namelen = sizeof to;
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  cmsghdr* const head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = IPPROTO_IP;
  head->cmsg_type = IP_PKTINFO;
  head->cmsg_len = CMSG_LEN(sizeof(in_pktinfo));
  in_pktinfo info{};
  std::memcpy(&info.ipi_spec_dst, packet + 12, 4);
  std::memcpy(CMSG_DATA(head), &info, sizeof info);
  ssize_t sent;
  do {
    sent = ::sendmsg(fd_.get(), &message, MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? errno : 0;
}

}  // namespace lb4
