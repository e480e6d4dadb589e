#include "cutter.h"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "checksum.h"

namespace lb4 {
namespace {

constexpr size_t IP_MIN = 20;
constexpr size_t IP_MAX = 60;
constexpr size_t TCP_MIN = 20;
constexpr size_t UDP_HEADER = 8;

// Offsets and bits of the IPv4 header (RFC 791 section 3.1) …
constexpr size_t LENGTH = 2, ID = 4, FRAGMENT = 6, CHECKSUM = 10, ADDRESSES = 12;
constexpr uint16_t MORE_FRAGMENTS = 0x2000, OFFSET_BITS = 0x1fff;
constexpr uint8_t END_OF_OPTIONS = 0, NO_OPERATION = 1, COPIED = 0x80;
// … of TCP's (RFC 9293 section 3.1) …
constexpr size_t SEQUENCE = 4, DATA_OFFSET = 12, TCP_FLAGS = 13, TCP_CHECKSUM = 16;
constexpr uint8_t FIN = 0x01, PSH = 0x08, CWR = 0x80;
// … and of UDP's (RFC 768).
constexpr size_t UDP_LENGTH = 4, UDP_CHECKSUM = 6;

uint16_t load16(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }

void store16(uint8_t* at, size_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}

uint32_t load32(const uint8_t* at) { return uint32_t{load16(at)} << 16 | load16(at + 2); }

void store32(uint8_t* at, uint32_t value) {
  store16(at, value >> 16);
  store16(at + 2, value & 0xffff);
}

size_t headerBytes(const uint8_t* packet) { return (packet[0] & 15) * size_t{4}; }

// Sums are taken and stored in native order (checksum.h).
void storeSum(uint8_t* at, uint16_t checksum) { std::memcpy(at, &checksum, 2); }

void finishIpHeader(uint8_t* packet, size_t length) {
  store16(packet + LENGTH, length);
  store16(packet + CHECKSUM, 0);
  storeSum(packet + CHECKSUM, static_cast<uint16_t>(~sum(packet, headerBytes(packet))));
}

// The pseudo-header (RFC 9293 section 3.1) goes into the checksum field, and sums up with the segment from there.
void finishTransportChecksum(uint8_t* packet, size_t field, size_t length) {
  const size_t header = headerBytes(packet);
  uint8_t pseudo[12] = {};
  std::memcpy(pseudo, packet + ADDRESSES, 8);
  pseudo[9] = packet[9];
  store16(pseudo + 10, length - header);
  storeSum(packet + header + field, sum(pseudo, sizeof pseudo));
  finishPartialChecksum(packet, length);
}

// Bytes of the IP and transport headers of a super-packet, which each of its segments has; 0: it is no whole TCP or UDP packet.
size_t segmentHeaders(const uint8_t* packet, size_t length) {
  const size_t ip = headerBytes(packet);
  size_t headers = ip + UDP_HEADER;
  if (packet[9] == IPPROTO_TCP) {
    if (length < ip + TCP_MIN) return 0;
    headers = ip + (packet[ip + DATA_OFFSET] >> 4) * size_t{4};
    if (headers < ip + TCP_MIN) return 0;
  } else if (packet[9] != IPPROTO_UDP) {
    return 0;
  }
  return headers > length ? 0 : headers;
}

// The TCP header of the segment at `offset` of a super-packet's payload: a sequence number of its own; CWR announces itself once (RFC 3168), FIN
// and PSH belong to the end.
void finishTcp(uint8_t* packet, size_t length, size_t offset, bool isLast) {
  uint8_t* const tcp = packet + headerBytes(packet);
  store32(tcp + SEQUENCE, load32(tcp + SEQUENCE) + static_cast<uint32_t>(offset));
  if (offset != 0) tcp[TCP_FLAGS] &= static_cast<uint8_t>(~CWR);
  if (!isLast) tcp[TCP_FLAGS] &= static_cast<uint8_t>(~(FIN | PSH));
  finishTransportChecksum(packet, TCP_CHECKSUM, length);
}

// A datagram of its own, without a checksum where the whole has none (RFC 768: zero).
void finishUdp(uint8_t* packet, size_t length, bool partial) {
  const size_t header = headerBytes(packet);
  store16(packet + header + UDP_LENGTH, length - header);
  if (partial || load16(packet + header + UDP_CHECKSUM) != 0) finishTransportChecksum(packet, UDP_CHECKSUM, length);
}

// The header of the fragments after the first: `packet`'s without the options that are not copied (RFC 791 section 3.1).
size_t laterHeader(const uint8_t* packet, uint8_t* later) {
  const size_t end = headerBytes(packet);
  std::memcpy(later, packet, IP_MIN);
  size_t bytes = IP_MIN;
  for (size_t at = IP_MIN; at < end && packet[at] != END_OF_OPTIONS;) {
    const bool plain = packet[at] == NO_OPERATION;
    const size_t length = plain ? 1 : at + 1 < end ? packet[at + 1] : 0;
    if (length == 0 || (!plain && length < 2) || length > end - at) break;
    if (packet[at] & COPIED) {
      std::memcpy(later + bytes, packet + at, length);
      bytes += length;
    }
    at += length;
  }
  while (bytes % 4 != 0) later[bytes++] = END_OF_OPTIONS;
  later[0] = static_cast<uint8_t>(0x40 | bytes / 4);
  return bytes;
}

}  // namespace

size_t Cutter::cut(uint8_t* packet, size_t length, const Cuts& how) {
  bytes_.clear();
  pieces_.clear();
  wrapped_ = 0;
  if (length < IP_MIN || headerBytes(packet) < IP_MIN || headerBytes(packet) > length) return 0;
  bool whole;
  if (how.segment != 0) whole = segment(packet, length, how);
  else whole = (!how.partial || finishPartialChecksum(packet, length)) && fragment(packet, length, how.mtu);
  if (!whole) pieces_.clear();
  return pieces_.size();
}

// As tcp_gso_segment(), __udp_gso_segment() and inet_gso_segment() of the kernel do it: every segment has the headers of the whole with an
// ID of its own.
bool Cutter::segment(const uint8_t* packet, size_t length, const Cuts& how) {
  const size_t headers = segmentHeaders(packet, length);
  if (headers == 0) return false;
  const uint16_t id = load16(packet + ID);
  size_t offset = 0;
  for (size_t count = 0; count == 0 || headers + offset < length; count++, offset += how.segment) {
    const size_t payload = std::min<size_t>(how.segment, length - headers - offset);
    segment_.resize(headers + payload);
    uint8_t* const out = segment_.data();
    std::memcpy(out, packet, headers);
    std::memcpy(out + headers, packet + headers + offset, payload);
    store16(out + ID, static_cast<uint16_t>(id + count));
    if (packet[9] == IPPROTO_TCP) finishTcp(out, headers + payload, offset, headers + offset + payload == length);
    else finishUdp(out, headers + payload, how.partial);
    if (!fragment(out, headers + payload, how.mtu)) return false;
  }
  return true;
}

// RFC 791 section 3.2. A packet that needs none is its own and only piece.
bool Cutter::fragment(const uint8_t* packet, size_t length, uint32_t mtu) {
  const size_t header = headerBytes(packet);
  if (length <= mtu) {
    finishIpHeader(append(packet, header, packet + header, length - header), length);
    return true;
  }
  const uint16_t original = load16(packet + FRAGMENT) & 0x3fff;
  // No packet ends behind byte 65535, and no offset tells of more: a fragment, or a size of segments, that says so lies.
  if (mtu < header + 8 || (original & OFFSET_BITS) * size_t{8} + length > 0xffff) return false;
  uint8_t later[IP_MAX];
  const size_t laterBytes = laterHeader(packet, later);
  const uint8_t* const body = packet + header;
  const size_t bodyBytes = length - header;
  // Zero is no identification that tells two packets of one sender apart (RFC 6864).
  uint16_t id = load16(packet + ID);
  if (id == 0) id = lastId_ = static_cast<uint16_t>(lastId_ == 0xffff ? 1 : lastId_ + 1);
  for (size_t offset = 0, bytes; offset < bodyBytes; offset += bytes) {
    const bool first = offset == 0;
    const size_t room = mtu - (first ? header : laterBytes);
    const bool last = bodyBytes - offset <= room;
    bytes = last ? bodyBytes - offset : room & ~size_t{7};
    uint8_t* const out = append(first ? packet : later, first ? header : laterBytes, body + offset, bytes);
    store16(out + ID, id);
    store16(out + FRAGMENT, original + offset / 8);
    if (!last) out[FRAGMENT] |= MORE_FRAGMENTS >> 8;
    finishIpHeader(out, (first ? header : laterBytes) + bytes);
  }
  return true;
}

void Cutter::wrap(const uint8_t* headers, size_t bytes) {
  wrapped_ = bytes;
  for (size_t i = 0; i < pieces_.size(); i++) {
    uint8_t* const out = packet(i);
    std::memcpy(out, headers, bytes);
    if (out[9] == IPPROTO_UDP) store16(out + IP_MIN + UDP_LENGTH, length(i) - IP_MIN);
    finishIpHeader(out, length(i));
  }
}

// Returns where the piece's IP header stands, until the next one is appended.
uint8_t* Cutter::append(const uint8_t* header, size_t headerLength, const uint8_t* body, size_t bodyBytes) {
  pieces_.push_back({bytes_.size(), headerLength + bodyBytes});
  bytes_.resize(bytes_.size() + room_ + headerLength + bodyBytes);
  uint8_t* const out = packet(pieces_.size() - 1);
  std::memcpy(out, header, headerLength);
  std::memcpy(out + headerLength, body, bodyBytes);
  return out;
}

}  // namespace lb4
