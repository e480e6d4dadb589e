#pragma once

#include <cstddef>
#include <cstdint>

namespace lb4 {

// One's complement sum (RFC 1071) of `length` bytes, folded to 16 bits, not complemented. Native byte order: the sum
// does not care (RFC 1071 section 2(B)), as long as it is stored the way it was loaded.
uint16_t sum(const uint8_t* bytes, size_t length);

// Finishes a partial TCP or UDP checksum: the field holds the pseudo-header's sum, so summing the segment as it stands
// gives the whole (as skb_checksum_help does). False where `packet` is no whole TCP or UDP header.
bool finishPartialChecksum(uint8_t* packet, size_t length);

}  // namespace lb4
