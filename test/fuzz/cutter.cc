// The cutter, and the checksums that it finishes (native/cutter.cc, native/checksum.cc), over a packet that may be anything, in a buffer of its own
// size: no piece is larger than it may be, every piece's headers are right, and together they are the packet, no more and no less.
#include "../../native/cutter.h"

#include <cstring>
#include <memory>
#include <vector>

#include "../../native/checksum.h"
#include "check.h"

namespace {

constexpr size_t ROOM = 76;
constexpr size_t MOST = 4096;
// GUE and three hops (src/packet/tunnel.ts).
constexpr size_t WRAPPINGS[] = {0, 20, 36, 48};

uint32_t headerBytes(const uint8_t* ip) { return (ip[0] & 15) * 4u; }

uint32_t offsetOf(const uint8_t* ip) { return (be16(ip + 6) & 0x1fff) * 8; }

bool hasMore(const uint8_t* ip) { return (be16(ip + 6) & 0x2000) != 0; }

void checkHeader(const uint8_t* ip, size_t length) {
  CHECK(headerBytes(ip) >= 20 && headerBytes(ip) <= length && be16(ip + 2) == length);
  CHECK(residue(ip, headerBytes(ip)) == 0);
}

// The transport headers and payload of a packet that was cut into the pieces `first` … `end - 1`, which must fit together.
std::vector<uint8_t> joined(lb4::Cutter& cutter, size_t first, size_t end) {
  std::vector<uint8_t> body;
  const uint32_t from = offsetOf(cutter.packet(first));
  for (size_t i = first; i < end; i++) {
    const uint8_t* const ip = cutter.packet(i);
    CHECK(offsetOf(ip) == from + body.size() && be16(ip + 4) == be16(cutter.packet(first) + 4));
    CHECK(i + 1 == end || hasMore(ip));
    body.insert(body.end(), ip + headerBytes(ip), ip + cutter.length(i));
  }
  CHECK(end - first == 1 || headerBytes(cutter.packet(first)) + from + body.size() <= 0xffff);
  return body;
}

bool isNone(const uint8_t* ip, const std::vector<uint8_t>& body) { return ip[9] == 17 && be16(body.data() + 6) == 0; }

// Whole, or cut into fragments: all of it is there, and its checksum finished.
void checkFragments(lb4::Cutter& cutter, size_t pieces, const std::vector<uint8_t>& packet, bool partial) {
  const std::vector<uint8_t> body = joined(cutter, 0, pieces);
  const uint32_t header = headerBytes(packet.data());
  CHECK(body.size() == packet.size() - header);
  CHECK(hasMore(cutter.packet(pieces - 1)) == hasMore(packet.data()));
  std::vector<uint8_t> expected(packet.begin() + header, packet.end());
  if (partial) {
    const size_t field = packet[9] == 6 ? 16 : 6;
    const uint32_t pseudo = be16(&expected[field]);
    std::memcpy(&expected[field], &body[field], 2);
    // With the pseudo-header's sum that stood there it comes out as nothing.
    CHECK((residue(body.data(), body.size()) + pseudo) % 0xffff == 0);
  }
  CHECK(body == expected);
}

// A super-packet: segments in their order, each of which may be in fragments.
void checkSegments(lb4::Cutter& cutter, size_t pieces, const std::vector<uint8_t>& packet, const lb4::Cuts& how) {
  const uint8_t* const ip = packet.data();
  const uint32_t header = headerBytes(ip);
  const uint32_t transport = ip[9] == 6 ? (ip[header + 12] >> 4) * 4u : 8;
  std::vector<uint8_t> payload;
  uint32_t sequence = be16(ip + header + 4) << 16 | be16(ip + header + 6);
  size_t first = 0;
  for (size_t i = 1; i <= pieces; i++) {
    if (i < pieces && offsetOf(cutter.packet(i)) > offsetOf(cutter.packet(first))) continue;
    const std::vector<uint8_t> body = joined(cutter, first, i);
    const uint8_t* const segment = cutter.packet(first);
    CHECK(body.size() >= transport && body.size() - transport <= how.segment);
    if (ip[9] == 6) CHECK((be16(&body[4]) << 16 | be16(&body[6])) == sequence);
    if (ip[9] == 17) CHECK(be16(&body[4]) == body.size());
    if (!isNone(segment, body)) CHECK(transport_error(segment, body.data(), body.size()) == 0);
    CHECK(!std::memcmp(body.data(), ip + header, 4));
    sequence += static_cast<uint32_t>(body.size() - transport);
    payload.insert(payload.end(), body.begin() + transport, body.end());
    first = i;
  }
  CHECK(payload == std::vector<uint8_t>(packet.begin() + header + transport, packet.end()));
}

void checkSum(const uint8_t* bytes, size_t length) {
  const uint32_t sum = lb4::sum(bytes, length);
  // In native order, as it would be stored.
  CHECK(((sum & 0xff) << 8 | sum >> 8) % 0xffff == residue(bytes, length));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  input input = {data, size};
  const uint8_t shape = take8(&input);
  const uint16_t segment = take16(&input);
  const lb4::Cuts how = {(shape & 1) != 0 ? segment : uint32_t{0}, (shape & 2) != 0, take16(&input)};
  const size_t length = input.left < MOST ? input.left : MOST;
  // Exactly as large as it is, so that a byte more is one too many.
  const std::unique_ptr<uint8_t[]> packet(new uint8_t[length]);
  std::memcpy(packet.get(), input.at, length);
  checkSum(packet.get(), length);
  if ((shape & 4) != 0 && length >= 20) packet[0] = static_cast<uint8_t>(0x45 + packet[0] % 3);
  if ((shape & 8) != 0 && length >= 20) packet[9] = (shape & 16) != 0 ? 6 : 17;
  const std::vector<uint8_t> before(packet.get(), packet.get() + length);

  // The next identification is its own: one a process, as in a run.
  static lb4::Cutter cutter(ROOM);
  const size_t pieces = cutter.cut(packet.get(), length, how);
  if (pieces == 0) return 0;
  for (size_t i = 0; i < pieces; i++) {
    CHECK(cutter.length(i) <= how.mtu);
    checkHeader(cutter.packet(i), cutter.length(i));
  }
  if (how.segment != 0) checkSegments(cutter, pieces, before, how);
  else checkFragments(cutter, pieces, before, how.partial);

  const size_t bytes = WRAPPINGS[shape >> 5 & 3];
  if (bytes == 0) return 0;
  uint8_t outer[48] = {0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, static_cast<uint8_t>(bytes == 20 ? 4 : 17), 0, 0, 192, 0, 2, 1, 192, 0, 2, 9};
  cutter.wrap(outer, bytes);
  for (size_t i = 0; i < pieces; i++) {
    checkHeader(cutter.packet(i), cutter.length(i));
    checkHeader(cutter.packet(i) + bytes, cutter.length(i) - bytes);
    if (bytes > 20) CHECK(be16(cutter.packet(i) + 24) == cutter.length(i) - 20);
  }
  return 0;
}
