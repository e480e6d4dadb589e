// Injection where the kernel picks the route: raw(7) with IP_HDRINCL. The slow path, for packets whose next hop is not
// known yet (sending them makes the kernel ask for it) and for interfaces without Ethernet.
#pragma once

#include "fd.h"

namespace lb4 {

class RawSocket {
 public:
  RawSocket();

  // From now on what ICMP errors made the kernel believe of a path's MTU counts for nothing: the interface's alone does
  // (IP_PMTUDISC_PROBE, ip(7)). Throws SystemError.
  void passOverLearntMtus();

  // Sends one IPv4 packet of `length` bytes at most (Ethernet padding after its total length is left out) to its own
  // destination. `partial`: its transport checksum is finished first, since the kernel would not. Returns 0 or an errno:
  // EMSGSIZE when it exceeds the interface's MTU (the kernel cuts nothing here: cutter.h does), EINVAL when malformed.
  int send(uint8_t* packet, size_t length, bool partial);

 private:
  Fd fd_;
};

}  // namespace lb4
