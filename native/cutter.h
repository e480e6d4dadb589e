// Cuts a packet that its next hop does not take whole: a super-packet into TCP segments or UDP datagrams, a packet without DF
// into fragments, or both. Off the hot path: pieces are copies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lb4 {

struct Cuts {
  uint32_t segment;  // payload bytes of each TCP segment or UDP datagram (gso_size); 0: the packet is no super-packet
  bool partial;      // the transport checksum holds only the pseudo-header's sum
  uint32_t mtu;      // bytes of an IP packet at most; DF is the caller's business
};

class Cutter {
 public:
  // `room` bytes stay free in front of each piece, for link headers.
  explicit Cutter(size_t room) : room_(room) {}

  // Cuts the IPv4 packet of `length` bytes, whose own total length is not looked at (of a BIG TCP packet it is 0). All
  // checksums of the pieces are right afterwards. Returns how many there are; 0 where the packet's headers contradict its
  // length, where its last byte would be one that no offset tells, or where the MTU leaves no room for eight bytes of payload. Finishes a partial checksum in place.
  size_t cut(uint8_t* packet, size_t length, const Cuts& how);

  // Puts the headers of a tunnel (src/packet/tunnel.ts), `bytes` of them from the outer IP header on, in front of every piece, in its room; lengths
  // and the outer checksum are each piece's own.
  void wrap(const uint8_t* headers, size_t bytes);

  // The IP packet of piece `index` of the last packet, length(index) bytes, with what is left of `room` in front of it.
  uint8_t* packet(size_t index) { return bytes_.data() + pieces_[index].at + room_ - wrapped_; }
  size_t length(size_t index) const { return pieces_[index].length + wrapped_; }

 private:
  struct Piece {
    size_t at;
    size_t length;
  };

  bool segment(const uint8_t* packet, size_t length, const Cuts& how);
  bool fragment(const uint8_t* packet, size_t length, uint32_t mtu);
  uint8_t* append(const uint8_t* header, size_t headerBytes, const uint8_t* body, size_t bodyBytes);

  size_t room_;
  size_t wrapped_ = 0;  // bytes of the headers that every piece was wrapped in
  uint16_t lastId_ = 0;
  std::vector<uint8_t> bytes_;
  std::vector<Piece> pieces_;
  std::vector<uint8_t> segment_;  // the one in hand
};

}  // namespace lb4
