// What every target has: an end with a reason, and a second, slow opinion on checksums (nothing of native/ is used here).
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Ends the run where a property does not hold: libFuzzer writes the input down.
#define CHECK(holds)                                                          \
  do {                                                                        \
    if (!(holds)) {                                                           \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #holds);     \
      abort();                                                                \
    }                                                                         \
  } while (0)

static inline uint32_t be16(const uint8_t* at) { return (uint32_t)(at[0] << 8 | at[1]); }

// Bytes as big-endian words of 16 bits, modulo 2^16 - 1: what one's complement sums are equal by (RFC 1071). An odd last byte counts as padded.
static inline uint32_t residue(const uint8_t* bytes, size_t length) {
  uint64_t total = 0;
  for (size_t i = 0; i < length; i++) total += (uint64_t)bytes[i] << (i % 2 ? 0 : 8);
  return (uint32_t)(total % 0xffff);
}

// Of the pseudo-header of a segment of `length` bytes, of the IPv4 packet at `ip` (RFC 9293 section 3.1).
static inline uint32_t pseudo_residue(const uint8_t* ip, size_t length) {
  return (uint32_t)((residue(ip + 12, 8) + ip[9] + length) % 0xffff);
}

// How far the checksum of a segment of `length` bytes at `transport` is from right: 0 where it is. A rewrite must not change that.
static inline uint32_t transport_error(const uint8_t* ip, const uint8_t* transport, size_t length) {
  return (pseudo_residue(ip, length) + residue(transport, length)) % 0xffff;
}

// The input, taken from its front; zeros where it has ended.
struct input {
  const uint8_t* at;
  size_t left;
};

static inline uint8_t take8(struct input* input) {
  if (input->left == 0) return 0;
  input->left--;
  return *input->at++;
}

static inline uint16_t take16(struct input* input) {
  const uint16_t low = take8(input);
  return (uint16_t)(low | take8(input) << 8);
}

static inline uint32_t take32(struct input* input) {
  const uint32_t low = take16(input);
  return low | (uint32_t)take16(input) << 16;
}
