#include "checksum.h"

#include <netinet/in.h>

#include <cstring>

namespace lb4 {

uint16_t sum(const uint8_t* bytes, size_t length) {
  // 32-bit words into a 64-bit sum: carries collect in the upper half, and the loop vectorizes. 2^32 words fit.
  uint64_t total = 0;
  for (; length >= 4; bytes += 4, length -= 4) {
    uint32_t word;
    std::memcpy(&word, bytes, 4);
    total += word;
  }
  // At most three bytes are left, padded with zeros as RFC 1071 asks: the position in the word keeps native order.
  uint32_t tail = 0;
  std::memcpy(&tail, bytes, length);
  total += tail;
  total = (total & 0xffffffff) + (total >> 32);
  total = (total & 0xffffffff) + (total >> 32);
  total = (total & 0xffff) + (total >> 16);
  total = (total & 0xffff) + (total >> 16);
  return static_cast<uint16_t>(total);
}

bool finishPartialChecksum(uint8_t* packet, size_t length) {
  const size_t headerBytes = (packet[0] & 15) * 4u;
  const uint8_t protocol = packet[9];
  if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) return false;
  const size_t field = headerBytes + (protocol == IPPROTO_TCP ? 16 : 6);
  if (headerBytes < 20 || field + 2 > length) return false;
  uint16_t checksum = static_cast<uint16_t>(~sum(packet + headerBytes, length - headerBytes));
  // RFC 768: a UDP checksum of zero means "none", so zero is sent as all ones.
  if (checksum == 0 && protocol == IPPROTO_UDP) checksum = 0xffff;
  std::memcpy(packet + field, &checksum, 2);
  return true;
}

}  // namespace lb4
